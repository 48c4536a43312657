#pragma once
// Our own convolution kernels as one choice beside oneDNN's: Winograd where the stride is 1
// (winograd.h), direct where it is 2 (strided.h), few channels both.

#include "models/cpu/dnn_api.h"
#include "models/cpu/strided.h"
#include "models/cpu/winograd.h"

struct own_conv {
    enum { OWN_NONE, OWN_WINOGRAD, OWN_STRIDED } kind;
    struct winograd winograd[2]; // forward; data gradient, with in and out exchanged
    struct strided strided;
    float *weights, *turned; // as the kernels like them; the network's. turned: training only
};

// Finds the kernel for a layer of `in` to `out` channels; blocks are of `block` channels.
void own_describe(struct own_conv *o, const struct dnn_conv *shape, int in, int out, int block);
bool own_available(const struct own_conv *o);
size_t own_weight_count(const struct own_conv *o); // of weights, and of turned
size_t own_scratch_bytes(const struct own_conv *o, int threads, enum dnn_direction direction);
// From plain weights [out, in, 3, 3], as far as they are wanted.
void own_set_weights(const struct own_conv *o, const float *plain, bool weights, bool turned);
void own_forward(const struct own_conv *o, int threads, int count, const float *x,
                 const float *bias, bool relu, float *y, void *scratch);
void own_backward_data(const struct own_conv *o, int threads, int count, const float *dy, float *dx,
                       void *scratch);
// gradient [out, in, 3, 3] =.
void own_backward_weights(const struct own_conv *o, int threads, int count, const float *x,
                          const float *dy, float *gradient, void *scratch);
