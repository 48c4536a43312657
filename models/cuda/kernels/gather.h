#pragma once
// to[i] = from[rows[i]]: the pictures that leave for other ranks, side by side.

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Queues it for i < count, rows of `row_bytes` each; all in device memory, without overlap.
cudaError_t gather_launch(void *to, const void *from, const int64_t *rows, size_t count,
                          size_t row_bytes, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
