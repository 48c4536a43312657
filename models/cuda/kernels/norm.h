#pragma once
// BatchNorm (Ioffe & Szegedy 2015), with the activation and the average pool behind it. With a
// pool, y and dy below are the pool's: what lies between is never in memory.
//
//   y = act(scale (x - mean) + shift),  scale = gamma / sqrt(variance + 1e-5),  shift = beta
//   dz = dy where the activation let through, else 0;  S = sum dz,  Q = sum dz (x - mean)
//   dgamma = Q / sqrt(variance + 1e-5);  dbeta = S
//   dx = scale (dz - S / n - (x - mean) Q / n / (variance + 1e-5))
//
// Sums are first partial ones (columns.h): of x - pivot and its square, where the pivot is the
// channel's first value, so that a large mean costs no digits; then f64 totals. A convolution may
// leave partials of one block in their place: of forward f32 sums of x and x², pivot 0 (`x` is then
// NULL, below), of backward those of dz and dz (x - mean). Forward's rounding, about 1e-6, costs
// 1e-6 (1 + mean² / variance) of the variance: a thousandth where the mean is 30 deviations, and
// less than bf16's rounding of the values themselves. Where BatchNorm takes its statistics over the
// whole batch, sums leave as f64 [2C + 1] (of x and x² themselves and the number of samples; Q and
// S), which the caller adds up, and totals come back.

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "models/cuda/kernels/columns.h"
#include "models/cuda/kernels/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

// What is known of each channel, f32 [padded]; padded channels have zeros, but for the variance's
// place, which does not matter.
enum norm_vector {
    NORM_MEAN,
    NORM_VARIANCE, // biased
    NORM_SCALE,
    NORM_SHIFT,
    NORM_INVERSE, // 1 / sqrt(variance + epsilon)
    NORM_BASE,    // S / n
    NORM_SLOPE,   // Q / n / (variance + epsilon)
    NORM_VECTORS,
};
struct norm_state {
    float *vectors; // [NORM_VECTORS, padded]
    double *values; // how many numbers of a channel were normalised together: n
};
static inline float *norm_vector_of(const struct norm_state *s, enum norm_vector v, int channels)
{
    return s->vectors + (size_t)v * (size_t)channels_padded(channels);
}

struct norm_layer {
    struct columns columns;
    struct norm_state state;
    int samples, area;         // rows = samples × area
    const float *gamma, *beta; // [channels]: the arena's
    bool relu;
    struct pool pool; // kernel 0: none
};

// Of how many blocks partials are. Those that a convolution has left are one's; of no samples none.
static inline int norm_partial_blocks(const struct norm_layer *n, bool left)
{
    if (!left)
        return column_blocks(&n->columns);
    return n->columns.rows > 0 ? 1 : 0;
}

// ---- forward
// partials = of this micro-batch's x. Below, x is NULL where a convolution has left the sums.
cudaError_t norm_moments_launch(const struct norm_layer *n, const void *x, float *partials,
                                enum element_type type, cudaStream_t stream);
// The state for these statistics: the micro-batch is all there is.
cudaError_t norm_statistics_launch(const struct norm_layer *n, const void *x, const float *partials,
                                   enum element_type type, cudaStream_t stream);
// sums[2C + 1] of this micro-batch, which may have no samples; and the state for the totals.
cudaError_t norm_sums_launch(const struct norm_layer *n, const void *x, const float *partials,
                             double *sums, enum element_type type, cudaStream_t stream);
cudaError_t norm_totals_launch(const struct norm_layer *n, const double *totals,
                               cudaStream_t stream);
// The state for running statistics.
cudaError_t norm_running_launch(const struct norm_layer *n, const float *mean,
                                const float *variance, cudaStream_t stream);
// y may be x, without a pool. Rows that belong to no sample become zeros.
cudaError_t norm_apply_launch(const struct norm_layer *n, const void *x, void *y,
                              enum element_type type, cudaStream_t stream);

// ---- backward
// partials = of dz and dz (x - mean). Below, `left` says that a convolution has left them.
cudaError_t norm_gradient_moments_launch(const struct norm_layer *n, const void *x, const void *dy,
                                         float *partials, enum element_type type,
                                         cudaStream_t stream);
// dgamma and dbeta (=, [channels]), and the state's base and slope.
cudaError_t norm_gradient_statistics_launch(const struct norm_layer *n, const float *partials,
                                            bool left, float *dgamma, float *dbeta,
                                            cudaStream_t stream);
// sums[2C] = Q, S; dgamma and dbeta are of this micro-batch. Then base and slope from the totals.
cudaError_t norm_gradient_sums_launch(const struct norm_layer *n, const float *partials, bool left,
                                      double *sums, float *dgamma, float *dbeta,
                                      cudaStream_t stream);
cudaError_t norm_gradient_totals_launch(const struct norm_layer *n, const double *totals,
                                        cudaStream_t stream);
// dx may be dy, without a pool; dy may be dz already. Rows that belong to no sample become zeros.
cudaError_t norm_gradient_launch(const struct norm_layer *n, const void *x, const void *dy,
                                 void *dx, enum element_type type, cudaStream_t stream);

// ---- statistics
// gradients[mean + c] = samples × inverse_batch × mean, and the unbiased variance's share.
struct step_scalars;
cudaError_t norm_report_launch(const struct norm_layer *n, const struct step_scalars *scalars,
                               float *mean, float *variance, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
