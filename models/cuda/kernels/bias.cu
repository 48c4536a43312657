#include "models/cuda/kernels/bias.h"

#include "models/cuda/kernels/columns.cuh"

namespace
{

enum { THREADS = 256 };

__device__ float activated(float v, bool relu)
{
    return relu ? relu_of(v) : v;
}

template <typename T>
__global__ void __launch_bounds__(THREADS) bias_kernel(const T *x, const float *bias, int64_t rows,
                                                       int channels, bool relu, T *y, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= units)
        return;
    int lanes = (channels + CHANNEL_UNIT - 1) / CHANNEL_UNIT;
    int channel = (int)(at % lanes) * CHANNEL_UNIT;
    float v[CHANNEL_UNIT];
    unit_load(v, x + at * CHANNEL_UNIT);
    for (int i = 0; i < CHANNEL_UNIT; i++) {
        bool real = channel + i < channels && at / lanes < rows;
        float b = bias != nullptr && real ? bias[channel + i] : 0.0f;
        v[i] = real ? activated(v[i] + b, relu) : 0.0f;
    }
    unit_store(y + at * CHANNEL_UNIT, v);
}

__global__ void __launch_bounds__(THREADS)
    logits_kernel(const float *x, const float *bias, int channels, int padded, float *y,
                  int64_t count)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= count)
        return;
    int channel = (int)(at % channels);
    float v = x[at / channels * padded + channel];
    y[at] = bias != nullptr ? v + bias[channel] : v;
}

// Writes the masked gradient back on its way.
template <typename T> struct bias_term {
    const T *y; // NULL: no activation
    T *dy;
    int padded;

    __device__ void operator()(int64_t row, int channel, float (&first)[CHANNEL_UNIT],
                               float (&second)[CHANNEL_UNIT])
    {
        unit_load(first, dy + row * padded + channel);
        if (y != nullptr) {
            float out[CHANNEL_UNIT];
            unit_load(out, y + row * padded + channel);
            for (int i = 0; i < CHANNEL_UNIT; i++)
                if (!(out[i] > 0.0f))
                    first[i] = 0.0f;
            unit_store(dy + row * padded + channel, first);
        }
        for (int i = 0; i < CHANNEL_UNIT; i++)
            second[i] = 0.0f;
    }
};

__global__ void total_kernel(const float *partials, int blocks, int channels, int padded,
                             float *dbias)
{
    double sums[2];
    int c = (int)blockIdx.x * column_sums::TOTAL_CHANNELS +
            (int)threadIdx.x % column_sums::TOTAL_CHANNELS;
    column_sums::block_totals(partials, blocks, padded, sums);
    if (threadIdx.x < column_sums::TOTAL_CHANNELS && c < channels)
        dbias[c] = (float)sums[0];
}

launch_shape shape_of(int64_t count, cudaStream_t stream)
{
    return launch_shape{dim3((unsigned)((count + THREADS - 1) / THREADS)), dim3(THREADS), 0,
                        stream};
}

template <typename T>
cudaError_t bias_typed(const columns &c, const void *x, const float *bias, bool relu, void *y,
                       cudaStream_t stream)
{
    int64_t units = c.rows_total * (channels_padded(c.channels) / CHANNEL_UNIT);
    return kernel_launch(shape_of(units, stream), bias_kernel<T>, static_cast<const T *>(x), bias,
                         c.rows, c.channels, relu, static_cast<T *>(y), units);
}

template <typename T>
cudaError_t gradient_typed(const columns &c, const void *y, bool relu, void *dy, float *partials,
                           cudaStream_t stream)
{
    bias_term<T> term = {relu ? static_cast<const T *>(y) : nullptr, static_cast<T *>(dy),
                         channels_padded(c.channels)};
    return column_sums::launch(term, c, partials, stream);
}

} // namespace

cudaError_t bias_launch(const struct columns *c, const void *x, const float *bias, bool relu,
                        void *y, enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, bias_typed, *c, x, bias, relu, y, stream);
}

cudaError_t logits_launch(const struct columns *c, const float *x, const float *bias, float *y,
                          cudaStream_t stream)
{
    int64_t count = c->rows_total * c->channels;
    return kernel_launch(shape_of(count, stream), logits_kernel, x, bias, c->channels,
                         channels_padded(c->channels), y, count);
}

cudaError_t bias_gradient_launch(const struct columns *c, const void *y, bool relu, void *dy,
                                 float *partials, enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, gradient_typed, *c, y, relu, dy, partials, stream);
}

cudaError_t bias_gradient_total_launch(const struct columns *c, const float *partials, float *dbias,
                                       cudaStream_t stream)
{
    return kernel_launch(column_sums::totals_shape(c->channels, stream), total_kernel, partials,
                         column_blocks(c), c->channels, channels_padded(c->channels), dbias);
}
