#pragma once
// Average pooling: windows of kernel × kernel side by side, those that would reach over the edge
// left out.

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "models/cuda/kernels/element.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pool {
    int samples, channels; // all samples in memory
    int in_height, in_width, out_height, out_width, kernel;
};
// x[samples, in_height, in_width, padded] -> y[samples, out_height, out_width, padded]
cudaError_t pool_launch(const struct pool *p, const void *x, void *y, enum element_type type,
                        cudaStream_t stream);
// dx (=): each pixel's share of its window's dy, zero for pixels of none.
cudaError_t pool_gradient_launch(const struct pool *p, const void *dy, void *dx,
                                 enum element_type type, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
