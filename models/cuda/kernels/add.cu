#include "models/cuda/kernels/add.h"

#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256, EACH = 4, PER_BLOCK = THREADS * EACH }; // elements

template <typename T>
__global__ void __launch_bounds__(THREADS) add_kernel(T *to, const T *from, size_t count)
{
    size_t first = (size_t)blockIdx.x * PER_BLOCK + threadIdx.x;
    for (int k = 0; k < EACH; k++) { // a warp's elements lie side by side
        size_t i = first + (size_t)k * THREADS;
        if (i < count)
            to[i] += from[i];
    }
}

template <typename T>
cudaError_t launch(void *to, const void *from, size_t count, cudaStream_t stream)
{
    dim3 blocks((unsigned)((count + PER_BLOCK - 1) / PER_BLOCK));
    return kernel_launch(launch_shape{blocks, dim3(THREADS), 0, stream}, add_kernel<T>,
                         static_cast<T *>(to), static_cast<const T *>(from), count);
}

} // namespace

cudaError_t add_launch(void *to, const void *from, size_t count, enum real_type type,
                       cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    return type == REAL_F64 ? launch<double>(to, from, count, stream)
                            : launch<float>(to, from, count, stream);
}
