#pragma once
// The search for what is not finite.

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// *found = 1 where a value is NaN or infinite; left alone otherwise.
cudaError_t not_finite_launch(int32_t *found, const float *values, size_t count,
                              cudaStream_t stream);

#ifdef __cplusplus
}
#endif
