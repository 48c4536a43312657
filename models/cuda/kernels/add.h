#pragma once
// to[i] += from[i]: nodes of the micro-batch tree, within a rank and between ranks.

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "base/real.h"

#ifdef __cplusplus
extern "C" {
#endif

// Queues the sum of two arrays in device memory, [count] of `type` each, which do not overlap.
cudaError_t add_launch(void *to, const void *from, size_t count, enum real_type type,
                       cudaStream_t stream);

#ifdef __cplusplus
}
#endif
