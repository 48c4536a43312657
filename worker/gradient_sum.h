#pragma once
// The sum of the gradients over the ranks, in buckets: ranges of the arena from its end to its
// beginning, for backward makes the last layer's gradients first. Where sums can run beside the
// engine's queue (comm_overlaps), a bucket starts as soon as this rank's part of it is there, and
// travels while backward goes on (Li et al. 2020, "PyTorch Distributed"). Elsewhere there is one
// sum, after backward; with a sharded optimizer too, whose ranges are cut of the whole arena
// (worker/own_range.h). Sums are element by element: buckets change no bit of a deterministic one.
//
//     gradient_sum_begin(&sum);
//     gradient_sum_ready(&sum, begin);     // as backward goes on: [begin, total) is there
//     gradient_sum_finish(&sum);           // what is queued from now on comes after the sum

#include "comm/comm.h"
#include "models/graph.h"

// At most: each but the last is a third of the arena or more. What the last one takes, nothing
// hides; of a few MB, smaller parts would take longer to start than to travel
// (docs/performance.md).
enum { GRADIENT_BUCKETS = 3 };

struct gradient_sum {
    struct comm *comm; // borrowed
    char *gradients;   // borrowed: the arena, engine memory [total]
    size_t total;
    enum real_type real;
    bool deterministic, sharded;
    int buckets; // bucket i is [cuts[i + 1], cuts[i]); 0: all at once
    size_t cuts[GRADIENT_BUCKETS + 1];
    int started; // of this step's buckets
};

// A plain value; the graph's parameters say where to cut. The same on all ranks. Not collective.
struct gradient_sum gradient_sum_of(struct comm *c, const struct graph *g, void *gradients,
                                    enum real_type real, bool deterministic, bool sharded);
void gradient_sum_begin(struct gradient_sum *s);
// Whether the next bucket, [*from, *to), lies in [begin, total).
bool gradient_sum_due(const struct gradient_sum *s, size_t begin, size_t *from, size_t *to);
// Collective: starts the buckets that are due. This rank's gradients from `begin` on are final,
// ordered on the engine's queue. Ranks may call it in other steps, as long as they come to 0.
int gradient_sum_ready(struct gradient_sum *s, size_t begin);
// Collective. The arena is the sum; where sharded, this rank's own range of it. Queued.
int gradient_sum_finish(struct gradient_sum *s);
