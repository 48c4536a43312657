#pragma once
// Windows of average pooling, 8 channels at a time: for pooling alone and behind a BatchNorm.

#include "models/cuda/kernels/element.cuh"
#include "models/cuda/kernels/pool.h"

namespace pooling
{

// A unit of 8 channels of one pixel: at = ((sample, y, x), lane).
struct place {
    int64_t sample;
    int y, x, channel;
};

__device__ static inline place place_of(int64_t at, int height, int width, int padded)
{
    int lanes = padded / CHANNEL_UNIT;
    int64_t pixel = at / lanes;
    return {pixel / width / height, (int)(pixel / width % height), (int)(pixel % width),
            (int)(at % lanes) * CHANNEL_UNIT};
}

// The mean of map(x) over the window of the output at `to`.
template <typename T, typename Map>
__device__ void window_mean(const pool &p, int padded, const T *x, const place &to, const Map &map,
                            float (&mean)[CHANNEL_UNIT])
{
    float share = 1.0f / (float)(p.kernel * p.kernel);
    for (int i = 0; i < CHANNEL_UNIT; i++)
        mean[i] = 0.0f;
    for (int k = 0; k < p.kernel * p.kernel; k++) {
        int row = to.y * p.kernel + k / p.kernel, column = to.x * p.kernel + k % p.kernel;
        float v[CHANNEL_UNIT];
        unit_load(v, x + ((to.sample * p.in_height + row) * p.in_width + column) * padded +
                         to.channel);
        map(v);
        for (int i = 0; i < CHANNEL_UNIT; i++)
            mean[i] += v[i];
    }
    for (int i = 0; i < CHANNEL_UNIT; i++)
        mean[i] *= share;
}

// The pixel's share of its window's gradient, zero where it is in none.
template <typename T>
__device__ void window_share(const pool &p, int padded, const T *dy, const place &of,
                             float (&dx)[CHANNEL_UNIT])
{
    int row = of.y / p.kernel, column = of.x / p.kernel;
    float share = 1.0f / (float)(p.kernel * p.kernel);
    for (int i = 0; i < CHANNEL_UNIT; i++)
        dx[i] = 0.0f;
    if (row >= p.out_height || column >= p.out_width)
        return;
    unit_load(dx,
              dy + ((of.sample * p.out_height + row) * p.out_width + column) * padded + of.channel);
    for (int i = 0; i < CHANNEL_UNIT; i++)
        dx[i] *= share;
}

} // namespace pooling
