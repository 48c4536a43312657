#include "models/cuda/kernels/finite.h"

#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256, BLOCKS_MAX = 1024 };

// v * 0 is 0 for finite values only.
__global__ void __launch_bounds__(THREADS)
    not_finite_kernel(int32_t *found, const float *values, size_t count)
{
    bool bad = false;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (size_t)gridDim.x * THREADS)
        bad |= !(values[i] * 0.0f == 0.0f);
    if (bad)
        atomicExch(found, 1);
}

} // namespace

cudaError_t not_finite_launch(int32_t *found, const float *values, size_t count,
                              cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    size_t blocks = (count + THREADS - 1) / THREADS;
    unsigned grid = blocks < BLOCKS_MAX ? (unsigned)blocks : (unsigned)BLOCKS_MAX;
    return kernel_launch(launch_shape{dim3(grid), dim3(THREADS), 0, stream}, not_finite_kernel,
                         found, values, count);
}
