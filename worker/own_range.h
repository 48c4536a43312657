#pragma once
// The optimizer, and the average, sharded over the ranks (`optimizer.shard`): a rank keeps moments
// and EMA of its own range of the arena alone (comm_own_range). A step is a reduce-scatter of the
// gradients (one, when backward has ended: worker/gradient_sum.h), the update of the own range, and
// an all-gather of the weights: what an all-reduce sends, and the same bits. Weights and gradients
// are whole on every rank.
// (Rajbhandari et al. 2020, "ZeRO", stages 1 and 2 but for the gradients' memory.)

#include "worker/trainer.h"

// What a rank keeps of an arena.
struct own_range {
    size_t begin, count;
};

// From the recipe and the graph. One rank owns all.
void own_range_init(struct trainer *t);
// Of an arena of graph->total or graph->trainable elements: all of it unless sharded.
struct own_range own_range_of(const struct trainer *t, size_t arena_count);
// Collective. Every rank's updated weights to all; nothing unless sharded. Queued.
int own_range_share(struct trainer *t);
// Collective. *whole = the arena of arena_count elements of which this rank keeps `own`: `own`
// itself, or, where sharded, gathered in place of the gradients, until the next call or step.
int own_range_gather(struct trainer *t, const void **whole, const void *own, size_t arena_count);
