#pragma once
// Bias and activation behind a convolution or a linear layer, and their gradients.

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "models/cuda/kernels/columns.h"

#ifdef __cplusplus
extern "C" {
#endif

// y = act(x + bias); bias [channels] or NULL. y may be x. Padded channels, and rows that belong to
// no sample, become zeros.
cudaError_t bias_launch(const struct columns *c, const void *x, const float *bias, bool relu,
                        void *y, enum element_type type, cudaStream_t stream);
// The logits: f32 x[rows, padded] + bias into plain rows y[rows, channels].
cudaError_t logits_launch(const struct columns *c, const float *x, const float *bias, float *y,
                          cudaStream_t stream);
// dy becomes zero where the activation (relu; y is what it let through) shut; the columns' partial
// sums are taken.
cudaError_t bias_gradient_launch(const struct columns *c, const void *y, bool relu, void *dy,
                                 float *partials, enum element_type type, cudaStream_t stream);
// dbias[channels] = the partial sums, added up.
cudaError_t bias_gradient_total_launch(const struct columns *c, const float *partials, float *dbias,
                                       cudaStream_t stream);

#ifdef __cplusplus
}
#endif
