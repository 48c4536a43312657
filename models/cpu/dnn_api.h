#pragma once
// The few oneDNN operations the engine is made of, alike for oneDNN 2.6 and 3.x.
//
// A dnn_op is one primitive with its arguments bound to memory. Formats stay inside: activations
// are nChw16c (8c below AVX-512) with channels that are whole blocks, pictures plain NCHW, and
// weights in whatever format the primitive likes, brought there by a pack operation. A narrow
// device has activations, their gradients and the weights of convolutions in bf16, and activations
// as NHWC with channels that are whole blocks; biases and the gradients of weights are f32. Nothing
// here allocates once an operation has run the first time. Return values are retort_codes.

#include <stdbool.h>
#include <stddef.h>

#include <oneapi/dnnl/dnnl.h>

struct dnn { // the device
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int block; // channels of a block: 16 with AVX-512, else 8
    bool narrow;
};
// RETORT_USAGE where the processor has no bf16: what oneDNN emulates is refused.
int dnn_open(struct dnn *d, bool narrow);
void dnn_close(struct dnn *d); // takes a zeroed one
// "oneDNN 2.6.3, avx512_core", with ", bf16" of a narrow one.
void dnn_describe(const struct dnn *d, char *out, size_t out_bytes);

enum { DNN_ARGS = 12 };
struct dnn_op {
    dnnl_primitive_desc_t description; // owned
    dnnl_primitive_t primitive;        // owned
    int count;
    dnnl_exec_arg_t args[DNN_ARGS]; // memory objects owned, what they point at borrowed
};
void dnn_op_free(struct dnn_op *op); // takes a zeroed one
// Bytes argument `arg` (DNNL_ARG_SRC, …) occupies; 0 when the operation has none.
size_t dnn_op_bytes(const struct dnn_op *op, int arg);
// Points argument `arg` at `data`, for the first time or again.
int dnn_op_bind(const struct dnn *d, struct dnn_op *op, int arg, void *data);
// Every argument must have been bound. The scratchpad counts as one when it has bytes.
int dnn_op_run(const struct dnn *d, const struct dnn_op *op);
// Whether two arguments have the same format.
bool dnn_op_same_format(const struct dnn_op *a, int a_arg, const struct dnn_op *b, int b_arg);

struct dnn_conv {
    int count;   // samples
    int in, out; // channels, whole blocks (in: any number when plain_input)
    int in_height, in_width, out_height, out_width;
    int kernel, stride, padding;
    bool plain_input; // NCHW pictures
    bool bias, relu;  // fused into the forward pass
    bool wide_output; // f32 on a narrow device too
};
enum dnn_direction { DNN_FORWARD, DNN_BACKWARD_DATA, DNN_BACKWARD_WEIGHTS, DNN_DIRECTIONS };
enum dnn_algorithm { DNN_DIRECT, DNN_WINOGRAD, DNN_ALGORITHMS };
// *available = false, with no message, when oneDNN has no such kernel. Arguments: DNNL_ARG_SRC,
// WEIGHTS, BIAS, DST or their DIFF_.
int dnn_conv_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                    enum dnn_direction direction, enum dnn_algorithm algorithm, bool *available);
// From plain OIHW f32 (DNNL_ARG_FROM) to the format of `conv`'s argument `arg` (DNNL_ARG_TO), and
// back.
int dnn_pack_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                    const struct dnn_op *conv, int arg);
int dnn_unpack_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                      const struct dnn_op *conv, int arg);

// Row-major C[m, n] = op(A) op(B) + beta C; op is the transpose where said.
int dnn_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const float *a, int lda,
             const float *b, int ldb, float beta, float *c, int ldc);
