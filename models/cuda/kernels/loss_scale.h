#pragma once
// The scale of the loss after a step: halved where a gradient was not finite, doubled after many
// good ones.

#include <cuda_runtime_api.h>

#include "models/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

// scale (device memory) for the next step, and its not_finite 0 again.
cudaError_t loss_scale_launch(struct loss_scale *scale, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
