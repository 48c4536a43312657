#pragma once
// What an operation graph is made of; for dnn_graph.c and dnn_sums.c.

#include "models/cuda/dnn_desc.h"

// Descriptors of one graph: its parts may go once it is whole, cuDNN keeps what it needs.
enum { DNN_PARTS = 40, DNN_OPERATIONS = 8 };
struct dnn_parts {
    dnn_desc made[DNN_PARTS]; // owned: tensors, operations and what describes them
    int count;
    dnn_desc operations[DNN_OPERATIONS]; // of those
    int operation_count;
    int64_t ids; // of tensors: the last that was given
};
int dnn_part_new(struct dnn_parts *p, cudnnBackendDescriptorType_t type, dnn_desc *out);
int dnn_operation_new(struct dnn_parts *p, cudnnBackendDescriptorType_t type, dnn_desc *out);
// Tensors are numbered from 1 as they are made. A transient one is never in memory.
int dnn_tensor_new(struct dnn_parts *p, dnn_desc *out, const struct dnn_tensor *t, bool transient);

// ---- dnn_sums.c
// Adds the sums that the product wants beside its result. The tensors are its operands.
int dnn_output_sums_new(struct dnn_parts *p, const dnn_desc tensors[DNN_OPERANDS]);
// `raw` is what the product itself leaves, of the result's shape.
int dnn_gradient_sums_new(struct dnn_parts *p, const struct dnn_tensor *raw_shape, dnn_desc raw,
                          const dnn_desc tensors[DNN_OPERANDS]);
