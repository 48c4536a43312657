#pragma once
// `retort eval`: a checkpoint on a split of a data set.

#include <stdbool.h>

#include "comm/comm.h"
#include "data/dataset.h"

struct eval_request {
    const char *checkpoint, *data, *device;
    const char *logits; // a file to keep them in, or ""
    enum dataset_split split;
    bool ema; // the EMA weights in place of the raw ones
    bool as_json;
    int threads;
};

// Collective. Prints top-1, top-5 and loss.
int eval_checkpoint(struct comm *comm, const struct eval_request *request, bool *agreed);
