#pragma once
// cuDNN's graph API (plain C backend) in the few words that the engine needs.
//
// A product is one convolution, in one of its three directions, or one matrix product: a graph of
// one operation on three tensors; further ones may add up the channels of a convolution's result,
// for a BatchNorm, on its way to memory. What could run it is an offer (engine and knobs, from the
// heuristics or by a plan's text); an offer that cuDNN accepts becomes a plan; a call binds a plan
// to memory. Where there is no GPU, plans are made for a described device (dnn_target.device).

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define TRY_CUDNN(call)                                                                            \
    do {                                                                                           \
        cudnnStatus_t status_ = (call);                                                            \
        TRY_ELSE(status_ == CUDNN_STATUS_SUCCESS, RETORT_FAILED, "cuDNN: %s: %s", #call,           \
                 cudnnGetErrorString(status_));                                                    \
    } while (0)

typedef cudnnBackendDescriptor_t dnn_desc;

// What plans are for: a GPU by its handle, or (handle NULL) a described one.
struct dnn_target {
    cudnnHandle_t handle;
    dnn_desc device; // CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR
};

enum { DNN_RANK = 4 };
struct dnn_tensor {
    cudnnDataType_t type;
    int rank;
    int64_t dims[DNN_RANK], strides[DNN_RANK]; // in elements
};
// Pictures [count, channels, height, width] or filters, channels innermost in memory.
struct dnn_tensor dnn_pictures(cudnnDataType_t type, int64_t count, int64_t channels,
                               int64_t height, int64_t width);
// A matrix [rows, columns], row by row; dnn_transposed: the same memory read as [columns, rows].
struct dnn_tensor dnn_matrix(cudnnDataType_t type, int64_t rows, int64_t columns);
struct dnn_tensor dnn_transposed(struct dnn_tensor matrix);

enum dnn_operation {
    DNN_CONV_FORWARD, // x, w -> y
    DNN_CONV_DATA,    // dy, w -> dx
    DNN_CONV_WEIGHTS, // x, dy -> dw
    DNN_MATMUL,       // a, b -> a b
};
// Two factors and the result. Of a forward convolution, maybe, the result's sum and sum of squares
// a channel, f32 [1, channels, 1, 1] as all vectors here. Of a data gradient, maybe, what the ReLU
// and BatchNorm before the convolution want: the result is masked, 0 where scale (x - mean) + shift
// <= 0, and the sums are of it and of its products with x - mean.
enum dnn_operand {
    DNN_RESULT = 2,
    DNN_FACTORS_AND_RESULT,
    DNN_SUM = DNN_FACTORS_AND_RESULT,
    DNN_SECOND_SUM,
    DNN_NORM_X, // the BatchNorm's input
    DNN_NORM_MEAN,
    DNN_NORM_SCALE,
    DNN_NORM_SHIFT,
    DNN_OPERANDS,
};
struct dnn_product {
    enum dnn_operation operation;
    struct dnn_tensor operand[DNN_OPERANDS]; // those that are not wanted have rank 0
    int stride, padding;                     // of convolutions
};

// ---- graphs and what could run them

int dnn_graph_create(dnn_desc *out, const struct dnn_target *target, const struct dnn_product *p);
void dnn_desc_destroy(dnn_desc *d); // takes NULL

enum { DNN_KNOBS = 24, DNN_MODES = 3 };
struct dnn_offer {
    int mode; // of the heuristics: 0 to DNN_MODES - 1
    int64_t engine;
    int knob_count;
    int32_t knob[DNN_KNOBS]; // cudnnBackendKnobType_t
    int64_t value[DNN_KNOBS];
};
// The heuristics' offers for the graph, the most promising first, each once: modes A, B and
// FALLBACK. The caller frees *offers.
int dnn_offers(struct dnn_offer **offers, int *count, const struct dnn_target *target,
               dnn_desc graph);
// Numerical notes of an engine for the graph, a bit each (1 << cudnnBackendNumericalNote_t); false
// when cuDNN has no such engine for it.
bool dnn_engine_notes(const struct dnn_target *target, dnn_desc graph, int64_t engine,
                      uint32_t *notes);

// ---- plans

struct dnn_plan {
    dnn_desc plan; // owned; keeps what it needs of the graph
    int64_t workspace_bytes;
};
// By the offer; *accepted = false, without a message, where cuDNN refuses it. A plan for a
// described device counts as accepted when all but loading it onto the GPU went well, and can't be
// run.
int dnn_plan_create(struct dnn_plan *out, bool *accepted, const struct dnn_target *target,
                    dnn_desc graph, const struct dnn_offer *offer);
void dnn_plan_destroy(struct dnn_plan *p); // takes a zeroed one

// A plan bound to memory, kept as long as the addresses stay.
struct dnn_call {
    dnn_desc pack; // owned
    void *bound[DNN_OPERANDS], *workspace;
};
// Queues the plan on the handle's stream; operands that the product does not have are NULL.
int dnn_call_run(struct dnn_call *c, const struct dnn_plan *p, cudnnHandle_t handle,
                 void *const operands[DNN_OPERANDS], void *workspace);
void dnn_call_free(struct dnn_call *c); // takes a zeroed one
