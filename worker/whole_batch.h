#pragma once
// What synchronised BatchNorms sum over the whole batch: over this rank's micro-batches, then over
// the ranks, by the same fixed binary tree as gradients.

#include "comm/comm.h"
#include "models/engine.h"

struct whole_batch {
    struct engine *engine; // borrowed
    struct comm *comm;     // borrowed
    bool deterministic;
};

// sums[0][count] = the total over all ranks' sums[microbatches][count] (engine memory, f64); the
// others may change. Collective.
int whole_batch_sum(const struct whole_batch *w, double *const *sums, int microbatches,
                    size_t count);
