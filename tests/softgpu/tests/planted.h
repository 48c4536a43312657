#pragma once
// Kernels that are right, and kernels with one planted mistake each.

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- right
// to[i] = a x[i] + y[i], any count.
cudaError_t saxpy(float *to, float a, const float *x, const float *y, int count, cudaStream_t s);
// to[i] = from[0]
cudaError_t spread(float *to, const float *from, int count, cudaStream_t s);
// Two threads write neighbouring bytes of each of `pages` pages.
cudaError_t neighbours(uint8_t *to, int pages, cudaStream_t s);
// [rows, columns] -> [columns, rows] through a shared tile; with_barrier 0: a planted mistake.
cudaError_t transpose(float *to, const float *from, int rows, int columns, int with_barrier,
                      cudaStream_t s);
// The sum of `count` floats by shuffles and dynamic shared memory; one block of `threads`.
cudaError_t sum_block(float *to, const float *from, int count, int threads, cudaStream_t s);
// The same by many blocks, the last of which adds up (fenced 0: a planted mistake); *counter is 0.
cudaError_t sum_blocks(float *to, float *parts, unsigned *counter, const float *from, int count,
                       int blocks, int fenced, cudaStream_t s);
// histogram[v] += how often v occurs; atomic 0: a planted mistake.
cudaError_t histogram(unsigned *to, const uint8_t *from, int count, int atomic, cudaStream_t s);
// [8 results]: what ballots, reductions and shuffles of one warp gave.
cudaError_t warp_words(unsigned *to, cudaStream_t s);
// Lanes of one warp hand values on through shared memory; synced 0: a planted mistake.
cudaError_t warp_rotate(int *to, int synced, cudaStream_t s);
// to[i] = bf16(from[i]) * 2 + 1 by __hfma, back in float; and the same in fp16.
cudaError_t half_words(float *bf16, float *fp16, const float *from, int count, cudaStream_t s);
// *to = value of uninitialised shared memory.
cudaError_t shared_fresh(float *to, cudaStream_t s);
// to[i] = table[i % 4] of __constant__ memory, counted in a __device__ variable.
cudaError_t module_variables(int *to, unsigned *counted, int count, cudaStream_t s);

// ---- mistakes
cudaError_t misaligned(uint32_t *to, const uint32_t *from, int shift, cudaStream_t s);
cudaError_t out_of_bounds(float *p, int index, int write, cudaStream_t s);
cudaError_t array_index(float *to, int index, cudaStream_t s);
cudaError_t dynamic_index(float *to, int index, size_t shared_bytes, cudaStream_t s);
cudaError_t write_write(int *to, int threads, int blocks, cudaStream_t s);
cudaError_t barrier_in_half(float *to, int threads, cudaStream_t s);
cudaError_t barriers_apart(float *to, cudaStream_t s);
cudaError_t shuffle_exited(float *to, cudaStream_t s);
cudaError_t shuffle_mask(float *to, cudaStream_t s);

#ifdef __cplusplus
}
#endif
