#pragma once
// Small helpers to build cuDNN graphs in tests: descriptors live in a list that is freed at once.

#include <cudnn_backend.h>

#include "support.h"

#define DNN(call) assert_int_equal((call), CUDNN_STATUS_SUCCESS)

typedef cudnnBackendDescriptor_t desc_t;

desc_t desc_new(cudnnBackendDescriptorType_t type);
void descs_free(void);
void set_ints(desc_t d, cudnnBackendAttributeName_t name, int count, const int64_t *v);
void set_enum(desc_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int v);
void set_float(desc_t d, cudnnBackendAttributeName_t name, float v);
void set_descs(desc_t d, cudnnBackendAttributeName_t name, int count, const desc_t *v);
void set_desc(desc_t d, cudnnBackendAttributeName_t name, desc_t v);
desc_t finalized(desc_t d);

// [N, C, H, W] in NHWC order; VIRTUAL or'ed into the id.
enum { VIRTUAL = 1 << 20, BY_VALUE = 1 << 21 };
desc_t tensor4(int64_t id, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w);
desc_t tensor3(int64_t id, cudnnDataType_t type, int64_t batch, int64_t rows, int64_t columns);

desc_t convolution(int stride, int pre, int post, int dilation);
desc_t conv_forward(desc_t conv, desc_t x, desc_t w, desc_t y);
desc_t conv_data(desc_t conv, desc_t w, desc_t dy, desc_t dx);
desc_t conv_filter(desc_t conv, desc_t x, desc_t dy, desc_t dw);
// b NULL: unary. For RELU_BWD: x is dy, b what went forward, y is dx.
desc_t pointwise(cudnnPointwiseMode_t mode, desc_t x, desc_t b, desc_t y);
desc_t genstats(desc_t x, desc_t sum, desc_t squares);
desc_t reduction(cudnnReduceTensorOp_t kind, desc_t x, desc_t y);
desc_t matmul(desc_t a, desc_t b, desc_t c);
desc_t pool_forward(cudnnResampleMode_t mode, int window, int stride, int pad, desc_t x, desc_t y);
desc_t pool_backward(cudnnResampleMode_t mode, int window, int stride, int pad, desc_t dy,
                     desc_t dx);

desc_t graph_of(int count, const desc_t *ops);
// A plan on engine `index`; knob 0: as it is.
desc_t plan_on(desc_t graph, int64_t index, int64_t knob);
desc_t pack_of(int count, const int64_t *ids, void *const *pointers, void *workspace);
// Runs the graph on engine 0.
void graph_run(desc_t graph, int count, const int64_t *ids, void *const *pointers);

// Setup: a fresh device; teardown: no descriptor is left.
int graphs_setup(void **state);
int graphs_teardown(void **state);

static const cudnnDataType_t F32 = CUDNN_DATA_FLOAT, BF16 = CUDNN_DATA_BFLOAT16,
                             F16 = CUDNN_DATA_HALF;

uint16_t bf16_of(float v); // to nearest, ties to even
float bf16_value(uint16_t h);
// Device memory with these values as f32 or bf16; and whether it holds the expected ones.
void *put(const float *v, int count, cudnnDataType_t type);
void check(const char *what, const void *device, cudnnDataType_t type, const float *expected,
           int count);
