#pragma once
// The two partial sums of columns.h: one template over what a pixel adds.
//
//   struct Term {
//       // Of 8 channels from `channel` on, of row `row`: what they add to the first and second
//       sum.
//       __device__ void operator()(int64_t row, int channel, float (&first)[8], float
//       (&second)[8]);
//   };

#include "models/cuda/kernels/columns.h"
#include "models/cuda/kernels/element.cuh"
#include "models/cuda/launch.cuh"

namespace column_sums
{

struct unit_sums {
    float v[2][CHANNEL_UNIT];
};

// The rows of one block and one unit of channels, by `lanes` × `rows` threads.
template <typename Term>
__device__ void sum_unit(Term term, const columns &c, int lanes, int rows, int unit,
                         unit_sums (&shared)[COLUMN_THREADS], float *partials)
{
    int padded = channels_padded(c.channels);
    int lane = (int)threadIdx.x % lanes, row = (int)threadIdx.x / lanes;
    bool mine = row < rows && (unit + lane) * CHANNEL_UNIT < padded;
    unit_sums sums = {};
    if (mine)
        for (int64_t r = (int64_t)blockIdx.x * rows + row; r < c.rows;
             r += (int64_t)gridDim.x * rows) {
            float first[CHANNEL_UNIT], second[CHANNEL_UNIT];
            term(r, (unit + lane) * CHANNEL_UNIT, first, second);
            for (int i = 0; i < CHANNEL_UNIT; i++) {
                sums.v[0][i] += first[i];
                sums.v[1][i] += second[i];
            }
        }
    shared[threadIdx.x] = sums;
    __syncthreads();
    // A column a thread, its rows in order.
    int width = lanes * CHANNEL_UNIT;
    for (int i = (int)threadIdx.x; i < 2 * width; i += COLUMN_THREADS) {
        int which = i / width, column = i % width;
        float sum = 0.0f;
        for (int r = 0; r < rows; r++)
            sum += shared[r * lanes + column / CHANNEL_UNIT].v[which][column % CHANNEL_UNIT];
        int channel = unit * CHANNEL_UNIT + column;
        if (channel < padded)
            partials[((size_t)blockIdx.x * 2 + which) * padded + channel] = sum;
    }
    __syncthreads();
}

template <typename Term>
__global__ void __launch_bounds__(COLUMN_THREADS)
    kernel(Term term, columns c, int lanes, int rows, float *partials)
{
    __shared__ unit_sums shared[COLUMN_THREADS];
    for (int unit = 0; unit * CHANNEL_UNIT < c.channels; unit += lanes)
        sum_unit(term, c, lanes, rows, unit, shared, partials);
}

template <typename Term>
cudaError_t launch(Term term, const columns &c, float *partials, cudaStream_t stream)
{
    return kernel_launch(
        launch_shape{dim3((unsigned)column_blocks(&c)), dim3(COLUMN_THREADS), 0, stream},
        kernel<Term>, term, c, column_lanes(&c), column_rows(&c), partials);
}

enum { TOTAL_CHANNELS = 32, TOTAL_SLICES = 8 }; // of a block that adds up partial sums

// Both sums of channel blockIdx.x * 32 + threadIdx.x % 32 over the blocks' partials: slices of them
// side by side, then the slices in order. For the first 32 threads; all 256 of the block call it.
__device__ static inline void block_totals(const float *partials, int blocks, int padded,
                                           double (&sums)[2])
{
    __shared__ double shared[2][TOTAL_SLICES][TOTAL_CHANNELS];
    int column = (int)threadIdx.x % TOTAL_CHANNELS, slice = (int)threadIdx.x / TOTAL_CHANNELS;
    int channel = (int)blockIdx.x * TOTAL_CHANNELS + column;
    for (int which = 0; which < 2; which++) {
        double sum = 0.0;
        for (int b = slice; b < blocks && channel < padded; b += TOTAL_SLICES)
            sum += (double)partials[((size_t)b * 2 + which) * padded + channel];
        shared[which][slice][column] = sum;
    }
    __syncthreads();
    for (int which = 0; which < 2; which++) {
        sums[which] = 0.0;
        for (int k = 0; k < TOTAL_SLICES; k++)
            sums[which] += shared[which][k][column];
    }
}

static inline launch_shape totals_shape(int channels, cudaStream_t stream)
{
    int blocks = (channels_padded(channels) + TOTAL_CHANNELS - 1) / TOTAL_CHANNELS;
    return launch_shape{dim3((unsigned)blocks), dim3(TOTAL_CHANNELS * TOTAL_SLICES), 0, stream};
}

} // namespace column_sums
