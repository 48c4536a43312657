#include "models/cuda/kernels/pool.h"

#include "models/cuda/kernels/element.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

// A unit of 8 channels of one pixel: at = ((sample, y, x), lane).
struct place {
    int64_t sample;
    int y, x, channel;
};

__device__ place place_of(int64_t at, int height, int width, int padded)
{
    int lanes = padded / CHANNEL_UNIT;
    int64_t pixel = at / lanes;
    return {pixel / width / height, (int)(pixel / width % height), (int)(pixel % width),
            (int)(at % lanes) * CHANNEL_UNIT};
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(pool p, int padded, const T *x, T *y, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    place to = place_of(at, p.out_height, p.out_width, padded);
    float share = 1.0f / (float)(p.kernel * p.kernel), sum[CHANNEL_UNIT] = {};
    for (int k = 0; k < p.kernel * p.kernel; k++) {
        int row = to.y * p.kernel + k / p.kernel, column = to.x * p.kernel + k % p.kernel;
        float v[CHANNEL_UNIT];
        unit_load(v, x + ((to.sample * p.in_height + row) * p.in_width + column) * padded +
                         to.channel);
        for (int i = 0; i < CHANNEL_UNIT; i++)
            sum[i] += v[i];
    }
    for (int i = 0; i < CHANNEL_UNIT; i++)
        sum[i] *= share;
    unit_store(y + at * CHANNEL_UNIT, sum);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    gradient_kernel(pool p, int padded, const T *dy, T *dx, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    place to = place_of(at, p.in_height, p.in_width, padded);
    int row = to.y / p.kernel, column = to.x / p.kernel;
    float share = 1.0f / (float)(p.kernel * p.kernel), v[CHANNEL_UNIT] = {};
    if (row < p.out_height && column < p.out_width) {
        unit_load(v, dy + ((to.sample * p.out_height + row) * p.out_width + column) * padded +
                         to.channel);
        for (int i = 0; i < CHANNEL_UNIT; i++)
            v[i] *= share;
    }
    unit_store(dx + at * CHANNEL_UNIT, v);
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
