// BatchNorm backward: its two sums a channel, the parameters' gradients, and dx.

#include "models/cuda/kernels/columns.cuh"
#include "models/cuda/kernels/norm.h"
#include "models/cuda/kernels/pool.cuh"

namespace
{

using namespace column_sums;

// Vectors of the state, by their pointers: what one pixel's gradient needs.
struct channel_vectors {
    const float *mean, *scale, *shift, *base, *slope;
    int padded;
    bool relu;
};

channel_vectors vectors_of(const norm_layer &n)
{
    int channels = n.columns.channels;
    return {norm_vector_of(&n.state, NORM_MEAN, channels),
            norm_vector_of(&n.state, NORM_SCALE, channels),
            norm_vector_of(&n.state, NORM_SHIFT, channels),
            norm_vector_of(&n.state, NORM_BASE, channels),
            norm_vector_of(&n.state, NORM_SLOPE, channels),
            channels_padded(channels),
            n.relu};
}

// Where a pixel's dy is read: at its own place, or from its window of the pool behind.
template <typename T> struct own_gradient {
    const T *dy;
    int padded;

    __device__ void operator()(int64_t row, int channel, float (&v)[CHANNEL_UNIT]) const
    {
        unit_load(v, dy + row * padded + channel);
    }
};
template <typename T> struct window_gradient {
    const T *dy;
    int padded;
    pool p;

    __device__ void operator()(int64_t row, int channel, float (&v)[CHANNEL_UNIT]) const
    {
        int64_t at = (row * padded + channel) / CHANNEL_UNIT;
        pooling::window_share(p, padded, dy, pooling::place_of(at, p.in_height, p.in_width, padded),
                              v);
    }
};

// distance = x - mean; dz = dy where the activation let through. The same arithmetic as forward's
// says where that was, so that no output has to be kept.
template <typename T, typename Gradient>
__device__ void unit_gradient(const channel_vectors &v, const T *x, const Gradient &dy, int64_t row,
                              int channel, float (&dz)[CHANNEL_UNIT],
                              float (&distance)[CHANNEL_UNIT])
{
    float mean[CHANNEL_UNIT], scale[CHANNEL_UNIT], shift[CHANNEL_UNIT];
    unit_load(distance, x + row * v.padded + channel);
    dy(row, channel, dz);
    unit_load(mean, v.mean + channel);
    unit_load(scale, v.scale + channel);
    unit_load(shift, v.shift + channel);
    for (int i = 0; i < CHANNEL_UNIT; i++) {
        distance[i] -= mean[i];
        if (v.relu && !(fmaf(scale[i], distance[i], shift[i]) > 0.0f))
            dz[i] = 0.0f;
    }
}

template <typename T, typename Gradient> struct gradient_term {
    channel_vectors v;
    const T *x;
    Gradient dy;

    __device__ void operator()(int64_t row, int channel, float (&first)[CHANNEL_UNIT],
                               float (&second)[CHANNEL_UNIT])
    {
        unit_gradient(v, x, dy, row, channel, first, second);
        for (int i = 0; i < CHANNEL_UNIT; i++)
            second[i] *= first[i];
    }
};

template <typename T, typename Gradient>
__global__ void __launch_bounds__(COLUMN_THREADS)
    apply_kernel(channel_vectors v, const T *x, Gradient dy, T *dx, int64_t rows, int64_t units)
{
    int64_t at = (int64_t)blockIdx.x * COLUMN_THREADS + threadIdx.x;
    if (at >= units)
        return;
    int lanes = v.padded / CHANNEL_UNIT, channel = (int)(at % lanes) * CHANNEL_UNIT;
    int64_t row = at / lanes;
    float out[CHANNEL_UNIT] = {};
    if (row < rows) {
        float dz[CHANNEL_UNIT], distance[CHANNEL_UNIT], base[CHANNEL_UNIT], slope[CHANNEL_UNIT];
        float scale[CHANNEL_UNIT];
        unit_gradient(v, x, dy, row, channel, dz, distance);
        unit_load(base, v.base + channel);
        unit_load(slope, v.slope + channel);
        unit_load(scale, v.scale + channel);
        for (int i = 0; i < CHANNEL_UNIT; i++)
            out[i] = scale[i] * fmaf(-slope[i], distance[i], dz[i] - base[i]);
    }
    unit_store(dx + row * v.padded + channel, out);
}

// ---- from sums to base and slope

__device__ float *vector_of(const norm_layer &n, norm_vector v)
{
    return n.state.vectors + (size_t)v * channels_padded(n.columns.channels);
}

__device__ void slopes_set(const norm_layer &n, int c, double s, double q)
{
    double values = *n.state.values;
    double wide = (double)vector_of(n, NORM_VARIANCE)[c] + 1e-5;
    vector_of(n, NORM_BASE)[c] = (float)(s / values);
    vector_of(n, NORM_SLOPE)[c] = (float)(q / values / wide);
}

__device__ void parameters_set(const norm_layer &n, int c, double s, double q, float *dgamma,
                               float *dbeta)
{
    dgamma[c] = (float)(q / sqrt((double)vector_of(n, NORM_VARIANCE)[c] + 1e-5));
    dbeta[c] = (float)s;
}

// whole: the micro-batch is all there is. Else its sums leave.
__global__ void statistics_kernel(norm_layer n, const float *partials, int blocks, bool whole,
                                  double *out, float *dgamma, float *dbeta)
{
    double sums[2];
    int c = (int)blockIdx.x * TOTAL_CHANNELS + (int)threadIdx.x % TOTAL_CHANNELS;
    int channels = n.columns.channels;
    int padded = channels_padded(channels);
    block_totals(partials, blocks, padded, sums);
    if (threadIdx.x >= TOTAL_CHANNELS || c >= channels)
        return;
    parameters_set(n, c, sums[0], sums[1], dgamma, dbeta);
    if (whole) {
        slopes_set(n, c, sums[0], sums[1]);
    } else {
        out[c] = sums[1];
        out[channels + c] = sums[0];
    }
}

__global__ void totals_kernel(norm_layer n, const double *totals)
{
    int c = (int)blockIdx.x * TOTAL_CHANNELS + (int)threadIdx.x % TOTAL_CHANNELS;
    if (threadIdx.x < TOTAL_CHANNELS && c < n.columns.channels)
        slopes_set(n, c, totals[n.columns.channels + c], totals[c]);
}

// ---- typed launches

template <typename T> own_gradient<T> own(const norm_layer &n, const void *dy)
{
    return {static_cast<const T *>(dy), channels_padded(n.columns.channels)};
}

template <typename T> window_gradient<T> of_window(const norm_layer &n, const void *dy)
{
    return {static_cast<const T *>(dy), channels_padded(n.columns.channels), n.pool};
}

template <typename T, typename Gradient>
cudaError_t moments_from(const norm_layer &n, const void *x, Gradient dy, float *partials,
                         cudaStream_t stream)
{
    gradient_term<T, Gradient> term = {vectors_of(n), static_cast<const T *>(x), dy};
    return launch(term, n.columns, partials, stream);
}

template <typename T>
cudaError_t moments_typed(const norm_layer &n, const void *x, const void *dy, float *partials,
                          cudaStream_t stream)
{
    return n.pool.kernel > 0 ? moments_from<T>(n, x, of_window<T>(n, dy), partials, stream)
                             : moments_from<T>(n, x, own<T>(n, dy), partials, stream);
}

template <typename T, typename Gradient>
cudaError_t apply_from(const norm_layer &n, const void *x, Gradient dy, void *dx,
                       cudaStream_t stream)
{
    int64_t units = n.columns.rows_total * (channels_padded(n.columns.channels) / CHANNEL_UNIT);
    unsigned blocks = (unsigned)((units + COLUMN_THREADS - 1) / COLUMN_THREADS);
    return kernel_launch(launch_shape{dim3(blocks), dim3(COLUMN_THREADS), 0, stream},
                         apply_kernel<T, Gradient>, vectors_of(n), static_cast<const T *>(x), dy,
                         static_cast<T *>(dx), n.columns.rows, units);
}

template <typename T>
cudaError_t apply_typed(const norm_layer &n, const void *x, const void *dy, void *dx,
                        cudaStream_t stream)
{
    return n.pool.kernel > 0 ? apply_from<T>(n, x, of_window<T>(n, dy), dx, stream)
                             : apply_from<T>(n, x, own<T>(n, dy), dx, stream);
}

} // namespace

cudaError_t norm_gradient_moments_launch(const struct norm_layer *n, const void *x, const void *dy,
                                         float *partials, enum element_type type,
                                         cudaStream_t stream)
{
    return FOR_ELEMENT(type, moments_typed, *n, x, dy, partials, stream);
}

cudaError_t norm_gradient_statistics_launch(const struct norm_layer *n, const float *partials,
                                            bool left, float *dgamma, float *dbeta,
                                            cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), statistics_kernel, *n, partials,
                         norm_partial_blocks(n, left), true, nullptr, dgamma, dbeta);
}

cudaError_t norm_gradient_sums_launch(const struct norm_layer *n, const float *partials, bool left,
                                      double *sums, float *dgamma, float *dbeta,
                                      cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), statistics_kernel, *n, partials,
                         norm_partial_blocks(n, left), false, sums, dgamma, dbeta);
}

cudaError_t norm_gradient_totals_launch(const struct norm_layer *n, const double *totals,
                                        cudaStream_t stream)
{
    return kernel_launch(totals_shape(n->columns.channels, stream), totals_kernel, *n, totals);
}

cudaError_t norm_gradient_launch(const struct norm_layer *n, const void *x, const void *dy,
                                 void *dx, enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, apply_typed, *n, x, dy, dx, stream);
}
