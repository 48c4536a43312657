#pragma once
// Our own convolution kernels as one choice beside oneDNN's: Winograd where the stride is 1
// (winograd.h), direct where it is 2 (strided.h).

#include "models/cpu/dnn_api.h"
#include "models/cpu/strided.h"
#include "models/cpu/winograd.h"

struct own_conv {
    const struct winograd_kernels *winograd_kernels; // one of these two, or none: NULL
    const struct strided_kernels *strided_kernels;
    struct winograd winograd[2]; // forward; data gradient, with in and out exchanged
    struct strided strided;
    // Weights as the kernels like them, forward and turned for the data gradient; the network's.
    // NULL while nobody has chosen these kernels.
    float *weights[2];
};

// Finds the kernel for a layer of `in` to `out` channels; blocks are of `block` channels.
void own_describe(struct own_conv *o, const struct dnn_conv *shape, int in, int out, int block);
bool own_available(const struct own_conv *o);
size_t own_weight_count(const struct own_conv *o); // of weights, either way
size_t own_scratch_bytes(const struct own_conv *o, int threads, enum dnn_direction direction);
// From plain weights [out, in, 3, 3].
void own_set_weights(const struct own_conv *o, const float *plain, bool turned, float *to);
void own_forward(const struct own_conv *o, int threads, int count, const float *x,
                 const float *weights, const float *bias, bool relu, float *y, void *scratch);
void own_backward_data(const struct own_conv *o, int threads, int count, const float *dy,
                       const float *turned, float *dx, void *scratch);
// gradient [out, in, 3, 3] =.
void own_backward_weights(const struct own_conv *o, int threads, int count, const float *x,
                          const float *dy, float *gradient, void *scratch);
