#include "planted.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "models/cuda/launch.cuh"

namespace
{

enum { TILE = 8, WARP = 32 };

__global__ void saxpy_kernel(float *to, float a, const float *x, const float *y, int count)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count)
        to[i] = fmaf(a, x[i], y[i]);
}

__global__ void spread_kernel(float *to, const float *from, int count)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count)
        to[i] = from[0];
}

__global__ void neighbours_kernel(uint8_t *to, int pages)
{
    for (int page = 0; page < pages; page++)
        to[page * 4096 + (int)threadIdx.x] = (uint8_t)threadIdx.x;
}

__global__ void transpose_kernel(float *to, const float *from, int rows, int columns,
                                 int with_barrier)
{
    __shared__ float tile[TILE][TILE + 1];
    int x = (int)threadIdx.x, y = (int)threadIdx.y;
    int row = (int)blockIdx.y * TILE + y, column = (int)blockIdx.x * TILE + x;
    if (row < rows && column < columns)
        tile[y][x] = from[row * columns + column];
    if (with_barrier)
        __syncthreads();
    row = (int)blockIdx.y * TILE + x;
    column = (int)blockIdx.x * TILE + y;
    if (row < rows && column < columns)
        to[column * rows + row] = tile[x][y];
}

__device__ float warp_sum(float v)
{
    for (int step = WARP / 2; step > 0; step /= 2)
        v += __shfl_down_sync(0xffffffffu, v, step);
    return v;
}

__global__ void sum_block_kernel(float *to, const float *from, int count)
{
    float *warps = reinterpret_cast<float *>(dynamic_shared);
    float v = 0.0f;
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x)
        v += from[i];
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0)
        warps[threadIdx.x / WARP] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int w = 0; w < (int)blockDim.x / WARP; w++)
            sum += warps[w];
        *to = sum;
    }
}

__global__ void sum_blocks_kernel(float *to, float *parts, unsigned *counter, const float *from,
                                  int count, int fenced)
{
    __shared__ bool last;
    float v = 0.0f;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < count;
         i += (int)(gridDim.x * blockDim.x))
        v += from[i];
    v = warp_sum(v);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = v;
        if (fenced)
            __threadfence();
        last = atomicAdd(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0.0f;
        for (unsigned b = 0; b < gridDim.x; b++)
            sum += parts[b];
        *to = sum;
    }
}

__global__ void histogram_kernel(unsigned *to, const uint8_t *from, int count, int atomic)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count)
        return;
    if (atomic)
        atomicAdd(&to[from[i]], 1u);
    else
        to[from[i]]++;
}

__global__ void warp_words_kernel(unsigned *to)
{
    unsigned all = 0xffffffffu, lane = threadIdx.x;
    unsigned words[8] = {
        __ballot_sync(all, lane % 3 == 0),
        __reduce_add_sync(all, lane),
        __reduce_min_sync(all, lane + 5),
        __reduce_max_sync(all, lane + 5),
        __shfl_sync(all, lane, 7),
        __shfl_xor_sync(all, lane, 1),
        __shfl_up_sync(all, lane, 3, 8),
        (unsigned)(__any_sync(all, lane == 9) + 2 * __all_sync(all, lane == 9)),
    };
    if (lane == 8)
        for (int i = 0; i < 8; i++)
            to[i] = words[i];
}

__global__ void warp_rotate_kernel(int *to, int synced)
{
    __shared__ int values[WARP];
    unsigned lane = threadIdx.x;
    values[lane] = (int)lane * 10;
    if (synced)
        __syncwarp();
    to[lane] = values[(lane + 1) % WARP];
}

__global__ void half_words_kernel(float *bf16, float *fp16, const float *from, int count)
{
    int i = (int)threadIdx.x;
    if (i >= count)
        return;
    __nv_bfloat16 two = __float2bfloat16(2.0f), one = __float2bfloat16(1.0f);
    bf16[i] = __bfloat162float(__hfma(__float2bfloat16(from[i]), two, one));
    fp16[i] = __half2float(__hfma(__float2half(from[i]), __float2half(2.0f), __float2half(1.0f)));
}

__global__ void shared_fresh_kernel(float *to)
{
    __shared__ float nothing[4];
    *to = nothing[threadIdx.x];
    nothing[threadIdx.x] = 1.0f;
}

__constant__ int table[4] = {2, 3, 5, 7};
__device__ unsigned counted_here;

__global__ void module_variables_kernel(int *to, unsigned *counted)
{
    to[threadIdx.x] = table[threadIdx.x % 4];
    atomicAdd(&counted_here, 1u);
    __syncthreads();
    if (threadIdx.x == 0)
        *counted = atomicExch(&counted_here, 0u);
}

__global__ void misaligned_kernel(uint32_t *to, const uint32_t *from, int shift)
{
    uint4 v = *reinterpret_cast<const uint4 *>(from + shift);
    *to = v.x + v.w;
}

__global__ void out_of_bounds_kernel(float *p, int index, int write)
{
    if (write)
        p[index] = 1.0f;
    else
        p[0] = p[index];
}

__global__ void array_index_kernel(float *to, int index)
{
    __shared__ float first[4], second[4];
    first[threadIdx.x] = second[threadIdx.x] = 1.0f;
    *to = first[index] + second[0];
}

__global__ void dynamic_index_kernel(float *to, int index)
{
    float *values = reinterpret_cast<float *>(dynamic_shared);
    values[index] = 1.0f;
    *to = values[index];
}

__global__ void write_write_kernel(int *to)
{
    *to = (int)threadIdx.x;
}

__global__ void barrier_in_half_kernel(float *to)
{
    if (threadIdx.x >= blockDim.x / 2)
        return;
    __syncthreads();
    to[threadIdx.x] = 1.0f;
}

__global__ void barriers_apart_kernel(float *to)
{
    if (threadIdx.x % 2 == 0)
        __syncthreads();
    else
        __syncthreads();
    to[threadIdx.x] = 1.0f;
}

__global__ void shuffle_exited_kernel(float *to)
{
    if (threadIdx.x == 3)
        return;
    to[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.0f, 1);
}

__global__ void shuffle_mask_kernel(float *to)
{
    if (threadIdx.x < 4)
        to[threadIdx.x] = __shfl_sync(0xfu, 1.0f, 9);
}

} // namespace

cudaError_t saxpy(float *to, float a, const float *x, const float *y, int count, cudaStream_t s)
{
    enum { THREADS = 64 };
    if (count == 0)
        return cudaSuccess;
    return kernel_launch(launch_shape{dim3((count + THREADS - 1) / THREADS), THREADS, 0, s},
                         saxpy_kernel, to, a, x, y, count);
}

cudaError_t spread(float *to, const float *from, int count, cudaStream_t s)
{
    return kernel_launch(launch_shape{(count + WARP - 1) / WARP, WARP, 0, s}, spread_kernel, to,
                         from, count);
}

cudaError_t neighbours(uint8_t *to, int pages, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 2, 0, s}, neighbours_kernel, to, pages);
}

cudaError_t transpose(float *to, const float *from, int rows, int columns, int with_barrier,
                      cudaStream_t s)
{
    dim3 grid((columns + TILE - 1) / TILE, (rows + TILE - 1) / TILE);
    return kernel_launch(launch_shape{grid, dim3(TILE, TILE), 0, s}, transpose_kernel, to, from,
                         rows, columns, with_barrier);
}

cudaError_t sum_block(float *to, const float *from, int count, int threads, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, threads, threads / WARP * sizeof(float), s},
                         sum_block_kernel, to, from, count);
}

cudaError_t sum_blocks(float *to, float *parts, unsigned *counter, const float *from, int count,
                       int blocks, int fenced, cudaStream_t s)
{
    return kernel_launch(launch_shape{blocks, WARP, 0, s}, sum_blocks_kernel, to, parts, counter,
                         from, count, fenced);
}

cudaError_t histogram(unsigned *to, const uint8_t *from, int count, int atomic, cudaStream_t s)
{
    return kernel_launch(launch_shape{(count + WARP - 1) / WARP, WARP, 0, s}, histogram_kernel, to,
                         from, count, atomic);
}

cudaError_t warp_words(unsigned *to, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, WARP, 0, s}, warp_words_kernel, to);
}

cudaError_t warp_rotate(int *to, int synced, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, WARP, 0, s}, warp_rotate_kernel, to, synced);
}

cudaError_t half_words(float *bf16, float *fp16, const float *from, int count, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, count, 0, s}, half_words_kernel, bf16, fp16, from, count);
}

cudaError_t shared_fresh(float *to, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 1, 0, s}, shared_fresh_kernel, to);
}

cudaError_t module_variables(int *to, unsigned *counted, int count, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, count, 0, s}, module_variables_kernel, to, counted);
}

cudaError_t misaligned(uint32_t *to, const uint32_t *from, int shift, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 1, 0, s}, misaligned_kernel, to, from, shift);
}

cudaError_t out_of_bounds(float *p, int index, int write, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 1, 0, s}, out_of_bounds_kernel, p, index, write);
}

cudaError_t array_index(float *to, int index, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 1, 0, s}, array_index_kernel, to, index);
}

cudaError_t dynamic_index(float *to, int index, size_t shared_bytes, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, 1, shared_bytes, s}, dynamic_index_kernel, to, index);
}

cudaError_t write_write(int *to, int threads, int blocks, cudaStream_t s)
{
    return kernel_launch(launch_shape{blocks, threads, 0, s}, write_write_kernel, to);
}

cudaError_t barrier_in_half(float *to, int threads, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, threads, 0, s}, barrier_in_half_kernel, to);
}

cudaError_t barriers_apart(float *to, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, WARP, 0, s}, barriers_apart_kernel, to);
}

cudaError_t shuffle_exited(float *to, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, WARP, 0, s}, shuffle_exited_kernel, to);
}

cudaError_t shuffle_mask(float *to, cudaStream_t s)
{
    return kernel_launch(launch_shape{1, WARP, 0, s}, shuffle_mask_kernel, to);
}
