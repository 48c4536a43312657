#include "models/cuda/kernels/pool.h"

#include "models/cuda/kernels/pool.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

using namespace pooling;

struct unchanged {
    __device__ void operator()(float (&)[CHANNEL_UNIT]) const
    {
    }
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(pool p, int padded, const T *x, T *y, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    float mean[CHANNEL_UNIT];
    window_mean(p, padded, x, place_of(at, p.out_height, p.out_width, padded), unchanged(), mean);
    unit_store(y + at * CHANNEL_UNIT, mean);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    gradient_kernel(pool p, int padded, const T *dy, T *dx, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    float share[CHANNEL_UNIT];
    window_share(p, padded, dy, place_of(at, p.in_height, p.in_width, padded), share);
    unit_store(dx + at * CHANNEL_UNIT, share);
}

launch_shape shape_of(int64_t units, cudaStream_t stream)
{
    return launch_shape{dim3((unsigned)((units + THREADS - 1) / THREADS)), dim3(THREADS), 0,
                        stream};
}

template <typename T>
cudaError_t forward_typed(const pool &p, const void *x, void *y, cudaStream_t stream)
{
    int padded = channels_padded(p.channels);
    int64_t units = (int64_t)p.samples * p.out_height * p.out_width * (padded / CHANNEL_UNIT);
    return kernel_launch(shape_of(units, stream), forward_kernel<T>, p, padded,
                         static_cast<const T *>(x), static_cast<T *>(y), units);
}

template <typename T>
cudaError_t gradient_typed(const pool &p, const void *dy, void *dx, cudaStream_t stream)
{
    int padded = channels_padded(p.channels);
    int64_t units = (int64_t)p.samples * p.in_height * p.in_width * (padded / CHANNEL_UNIT);
    return kernel_launch(shape_of(units, stream), gradient_kernel<T>, p, padded,
                         static_cast<const T *>(dy), static_cast<T *>(dx), units);
}

} // namespace

cudaError_t pool_launch(const struct pool *p, const void *x, void *y, enum element_type type,
                        cudaStream_t stream)
{
    return FOR_ELEMENT(type, forward_typed, *p, x, y, stream);
}

cudaError_t pool_gradient_launch(const struct pool *p, const void *dy, void *dx,
                                 enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, gradient_typed, *p, dy, dx, stream);
}
