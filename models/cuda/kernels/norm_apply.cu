// y = act(scale (x - mean) + shift), pixel by pixel, or its means over the windows of a pool.

#include "models/cuda/kernels/norm.h"
#include "models/cuda/kernels/pool.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

struct affine {
    const float *mean, *scale, *shift;
    int padded;
    bool relu;
};

// Of 8 channels.
struct unit_affine {
    float mean[CHANNEL_UNIT], scale[CHANNEL_UNIT], shift[CHANNEL_UNIT];
    bool relu;

    __device__ unit_affine(const affine &a, int channel) : relu(a.relu)
    {
        unit_load(mean, a.mean + channel);
        unit_load(scale, a.scale + channel);
        unit_load(shift, a.shift + channel);
    }
    __device__ void operator()(float (&v)[CHANNEL_UNIT]) const
    {
        for (int i = 0; i < CHANNEL_UNIT; i++) {
            v[i] = fmaf(scale[i], v[i] - mean[i], shift[i]);
            if (relu)
                v[i] = relu_of(v[i]);
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    apply_kernel(affine a, const T *x, T *y, int64_t rows, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    int lanes = a.padded / CHANNEL_UNIT, channel = (int)(at % lanes) * CHANNEL_UNIT;
    int64_t row = at / lanes;
    float v[CHANNEL_UNIT] = {};
    if (row < rows) {
        unit_load(v, x + row * a.padded + channel);
        const unit_affine normalise(a, channel);
        normalise(v);
    }
    unit_store(y + row * a.padded + channel, v);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    pooled_kernel(affine a, pool p, const T *x, T *y, int64_t samples, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    pooling::place to = pooling::place_of(at, p.out_height, p.out_width, a.padded);
    float v[CHANNEL_UNIT] = {};
    if (to.sample < samples)
        pooling::window_mean(p, a.padded, x, to, unit_affine(a, to.channel), v);
    unit_store(y + at * CHANNEL_UNIT, v);
}

launch_shape shape_of(int64_t units, cudaStream_t stream)
{
    return launch_shape{dim3((unsigned)((units + THREADS - 1) / THREADS)), dim3(THREADS), 0,
                        stream};
}

template <typename T>
cudaError_t apply_typed(const norm_layer &n, const void *x, void *y, cudaStream_t stream)
{
    int channels = n.columns.channels;
    affine a = {norm_vector_of(&n.state, NORM_MEAN, channels),
                norm_vector_of(&n.state, NORM_SCALE, channels),
                norm_vector_of(&n.state, NORM_SHIFT, channels), channels_padded(channels), n.relu};
    const pool &p = n.pool;
    int lanes = a.padded / CHANNEL_UNIT;
    int64_t units = p.kernel > 0 ? (int64_t)p.samples * p.out_height * p.out_width * lanes
                                 : n.columns.rows_total * lanes;
    if (p.kernel > 0)
        return kernel_launch(shape_of(units, stream), pooled_kernel<T>, a, p,
                             static_cast<const T *>(x), static_cast<T *>(y), n.samples, units);
    return kernel_launch(shape_of(units, stream), apply_kernel<T>, a, static_cast<const T *>(x),
                         static_cast<T *>(y), n.columns.rows, units);
}

} // namespace

cudaError_t norm_apply_launch(const struct norm_layer *n, const void *x, void *y,
                              enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, apply_typed, *n, x, y, stream);
}
