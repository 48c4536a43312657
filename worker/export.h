#pragma once
// `retort export`: a checkpoint's weights as a safetensors file, for PyTorch.
//
// Beside the tensors (worker/state_dict.h) stands in __metadata__ what one must know to use them,
// as checkpoints hold it: arch, norm, activation, pictures, classes. The file depends on these and
// on the weights alone, so that what is imported is exported to the same bytes.

#include <stdbool.h>

struct export_request {
    const char *checkpoint, *out;
    bool ema; // the EMA weights in place of the raw ones
};

// Not collective: no ranks.
int export_checkpoint(const struct export_request *request);
