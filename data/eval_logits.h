#pragma once
// The logits of an evaluation, kept: `retort eval --logits`.
//
//   /logits [N, classes] f32|f64 (what the engine computes in), /labels [N] i32; N pictures in the
//   order of the split
//   attributes of /: split (train | val), weights (raw | ema), dataset (its fingerprint),
//   checkpoint (XXH3-128 of the weights, text), classes (JSON list of names), created_by

#include <stdint.h>

#include "base/real.h"
#include "data/dataset.h"

enum { EVAL_LOGITS_VERSION = H5_EVAL_LOGITS_VERSION };

struct eval_logits_header { // texts are borrowed
    int64_t count, classes;
    enum real_type real;
    enum dataset_split split;
    const char *weights, *dataset, *checkpoint, *class_names;
    const int32_t *labels; // [count], borrowed
};
// Starts the file, its space claimed; rows follow, then h5file_commit (or h5file_close).
int eval_logits_create(struct h5file *f, const char *path, const struct eval_logits_header *header);
// Rows [first, first + count) of the split: logits [count, classes].
int eval_logits_put(const struct h5file *f, enum real_type real, int64_t first, int64_t count,
                    const void *logits);
