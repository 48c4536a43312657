#pragma once
// Sums down the columns of a matrix of pixels: what BatchNorm and biases need, in a fixed order.
//
// A tensor is rows (samples × pixels) of `padded` channels. Blocks take rows in turn and leave two
// partial sums a channel each; whoever needs them adds the blocks' up in double (norm.cu,
// bias_gradient.cu). So the bits depend on the shape alone.

#include <stddef.h>
#include <stdint.h>

#include "models/cuda/kernels/element.h"

struct columns {
    int64_t rows;       // that count: the samples of this micro-batch
    int64_t rows_total; // in memory; those behind `rows` belong to no sample
    int channels;       // as in the graph
};

enum { COLUMN_THREADS = 256, COLUMN_BLOCKS_MAX = 256, COLUMN_ROWS_MIN = 4 };

// Units of 8 channels that a block has beside each other, and rows that it takes at a time.
static inline int column_lanes(const struct columns *c)
{
    int units = channels_padded(c->channels) / CHANNEL_UNIT;
    return units < COLUMN_THREADS ? units : (int)COLUMN_THREADS;
}
static inline int column_rows(const struct columns *c)
{
    return COLUMN_THREADS / column_lanes(c);
}

// How many blocks share the rows: at least 1, so that there are sums of no rows too.
static inline int column_blocks(const struct columns *c)
{
    int64_t share = (int64_t)column_rows(c) * COLUMN_ROWS_MIN;
    int64_t blocks = (c->rows + share - 1) / share;
    if (blocks < 1)
        return 1;
    return blocks < COLUMN_BLOCKS_MAX ? (int)blocks : (int)COLUMN_BLOCKS_MAX;
}

// Floats of the partial sums, [blocks, 2, padded], for any number of rows.
static inline size_t column_partials(int channels)
{
    return (size_t)COLUMN_BLOCKS_MAX * 2 * (size_t)channels_padded(channels);
}
