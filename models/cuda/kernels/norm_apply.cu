// y = act(scale (x - mean) + shift), pixel by pixel.

#include "models/cuda/kernels/element.cuh"
#include "models/cuda/kernels/norm.h"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

struct affine {
    const float *mean, *scale, *shift;
    int padded;
    bool relu;
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
        float mean[CHANNEL_UNIT], scale[CHANNEL_UNIT], shift[CHANNEL_UNIT];
        unit_load(v, x + row * a.padded + channel);
        unit_load(mean, a.mean + channel);
        unit_load(scale, a.scale + channel);
        unit_load(shift, a.shift + channel);
        for (int i = 0; i < CHANNEL_UNIT; i++) {
            v[i] = fmaf(scale[i], v[i] - mean[i], shift[i]);
            if (a.relu)
                v[i] = relu_of(v[i]);
        }
    }
    unit_store(y + row * a.padded + channel, v);
}

template <typename T>
cudaError_t apply_typed(const norm_layer &n, const void *x, void *y, cudaStream_t stream)
{
    int channels = n.columns.channels;
    affine a = {norm_vector_of(&n.state, NORM_MEAN, channels),
                norm_vector_of(&n.state, NORM_SCALE, channels),
                norm_vector_of(&n.state, NORM_SHIFT, channels), channels_padded(channels), n.relu};
    int64_t units = n.columns.rows_total * (a.padded / CHANNEL_UNIT);
    return kernel_launch(
        launch_shape{dim3((unsigned)((units + THREADS - 1) / THREADS)), dim3(THREADS), 0, stream},
        apply_kernel<T>, a, static_cast<const T *>(x), static_cast<T *>(y), n.columns.rows, units);
}

} // namespace

cudaError_t norm_apply_launch(const struct norm_layer *n, const void *x, void *y,
                              enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, apply_typed, *n, x, y, stream);
}
