// BatchNorm's statistics: sums over a micro-batch or the whole batch, and what follows from them.

#include "models/cuda/kernels/columns.cuh"
#include "models/cuda/kernels/norm.h"
#include "models/engine.h"

namespace
{

using namespace column_sums;

const double EPSILON = 1e-5;

// ---- x - pivot and its square

template <typename T> struct moment_term {
    const T *x;
    int padded;

    __device__ void operator()(int64_t row, int channel, float (&first)[CHANNEL_UNIT],
                               float (&second)[CHANNEL_UNIT])
    {
        float pivot[CHANNEL_UNIT];
        unit_load(pivot, x + channel);
        unit_load(first, x + row * padded + channel);
        for (int i = 0; i < CHANNEL_UNIT; i++) {
            first[i] -= pivot[i];
            second[i] = first[i] * first[i];
        }
    }
};

// ---- from sums to the state

__device__ float *vector_of(const norm_layer &n, norm_vector v)
{
    return n.state.vectors + (size_t)v * channels_padded(n.columns.channels);
}

// Gamma and beta are the graph's; padded channels scale by zero.
__device__ void state_set(const norm_layer &n, int c, double mean, double variance)
{
    bool real = c < n.columns.channels;
    if (!real)
        mean = variance = 0.0;
    double inverse = 1.0 / sqrt((double)(float)variance + EPSILON);
    vector_of(n, NORM_MEAN)[c] = (float)mean;
    vector_of(n, NORM_VARIANCE)[c] = (float)variance;
    vector_of(n, NORM_INVERSE)[c] = (float)inverse;
    vector_of(n, NORM_SCALE)[c] = real ? (float)((double)n.gamma[c] * inverse) : 0.0f;
    vector_of(n, NORM_SHIFT)[c] = real ? n.beta[c] : 0.0f;
}

__device__ double clamped(double variance)
{
    return variance < 0.0 ? 0.0 : variance; // NaN stays
}

__device__ int channel_here(const norm_layer &n, bool *mine)
{
    int c = (int)blockIdx.x * TOTAL_CHANNELS + (int)threadIdx.x % TOTAL_CHANNELS;
    *mine = threadIdx.x < TOTAL_CHANNELS && c < channels_padded(n.columns.channels);
    return c;
}

// What the sums of channel c were taken from; without x, of x itself.
template <typename T> __device__ double pivot_of(const T *x, int c)
{
    return x != nullptr ? (double)element_get(x[c]) : 0.0;
}

template <typename T>
__global__ void statistics_kernel(norm_layer n, const T *x, const float *partials, int blocks)
{
    double sums[2], values = (double)n.columns.rows;
    bool mine;
    int c = channel_here(n, &mine);
    block_totals(partials, blocks, channels_padded(n.columns.channels), sums);
    if (!mine)
        return;
    double shift = sums[0] / values;
    state_set(n, c, pivot_of(x, c) + shift, clamped(sums[1] / values - shift * shift));
    if (c == 0)
        *n.state.values = values;
}

// Of x and x²: sum x = sum d + n p, sum x² = sum d² + 2 p sum d + n p², d = x - p.
template <typename T>
__global__ void sums_kernel(norm_layer n, const T *x, const float *partials, int blocks,
                            double *out)
{
    double sums[2], values = (double)n.columns.rows;
    bool mine;
    int c = channel_here(n, &mine), channels = n.columns.channels;
    block_totals(partials, blocks, channels_padded(n.columns.channels), sums);
    if (!mine || c >= channels)
        return;
    double pivot = values > 0.0 ? pivot_of(x, c) : 0.0;
    out[c] = sums[0] + values * pivot;
    out[channels + c] = sums[1] + pivot * (2.0 * sums[0] + values * pivot);
    if (c == 0)
        out[2 * channels] = n.samples;
}

__global__ void totals_kernel(norm_layer n, const double *totals)
{
    bool mine;
    int c = channel_here(n, &mine), channels = n.columns.channels;
    if (!mine)
        return;
    double values = totals[2 * channels] * n.area, mean = 0.0, variance = 0.0;
    if (c < channels) {
        mean = totals[c] / values;
        variance = clamped(totals[channels + c] / values - mean * mean);
    }
    state_set(n, c, mean, variance);
    if (c == 0)
        *n.state.values = values;
}

__global__ void running_kernel(norm_layer n, const float *mean, const float *variance)
{
    bool mine;
    int c = channel_here(n, &mine);
    if (!mine)
        return;
    bool real = c < n.columns.channels;
    state_set(n, c, real ? (double)mean[c] : 0.0, real ? (double)variance[c] : 0.0);
}

__global__ void report_kernel(norm_layer n, const step_scalars *scalars, float *mean,
                              float *variance)
{
    bool mine;
    int c = channel_here(n, &mine);
    if (!mine || c >= n.columns.channels)
        return;
    double share = n.samples * scalars->inverse_batch, values = *n.state.values;
    double unbiased = values > 1.0 ? values / (values - 1.0) : 1.0;
    mean[c] = (float)(share * (double)vector_of(n, NORM_MEAN)[c]);
    variance[c] = (float)(share * unbiased * (double)vector_of(n, NORM_VARIANCE)[c]);
}

// ---- typed launches

template <typename T>
cudaError_t moments_typed(const norm_layer &n, const void *x, float *partials, cudaStream_t stream)
{
    moment_term<T> term = {static_cast<const T *>(x), channels_padded(n.columns.channels)};
    return launch(term, n.columns, partials, stream);
}

template <typename T>
cudaError_t statistics_typed(const norm_layer &n, const void *x, const float *partials,
                             cudaStream_t stream)
{
    return kernel_launch(totals_shape(n.columns.channels, stream), statistics_kernel<T>, n,
                         static_cast<const T *>(x), partials,
                         norm_partial_blocks(&n, x == nullptr));
}

template <typename T>
cudaError_t sums_typed(const norm_layer &n, const void *x, const float *partials, double *sums,
                       cudaStream_t stream)
{
    return kernel_launch(totals_shape(n.columns.channels, stream), sums_kernel<T>, n,
                         static_cast<const T *>(x), partials, norm_partial_blocks(&n, x == nullptr),
                         sums);
}

} // namespace

cudaError_t norm_moments_launch(const struct norm_layer *n, const void *x, float *partials,
                                enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, moments_typed, *n, x, partials, stream);
}

cudaError_t norm_statistics_launch(const struct norm_layer *n, const void *x, const float *partials,
                                   enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, statistics_typed, *n, x, partials, stream);
}

cudaError_t norm_sums_launch(const struct norm_layer *n, const void *x, const float *partials,
                             double *sums, enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, sums_typed, *n, x, partials, sums, stream);
}

cudaError_t norm_totals_launch(const struct norm_layer *n, const double *totals,
                               cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), totals_kernel, *n, totals);
}

cudaError_t norm_running_launch(const struct norm_layer *n, const float *mean,
                                const float *variance, cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), running_kernel, *n, mean,
                         variance);
}

cudaError_t norm_report_launch(const struct norm_layer *n, const struct step_scalars *scalars,
                               float *mean, float *variance, cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), report_kernel, *n, scalars,
                         mean, variance);
}
