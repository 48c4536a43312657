#include "models/cpu/strided.h"

#include <math.h>
#include <string.h>

#include "models/cpu/vec.h"
#include "models/host/host.h"

enum {
    TAPS = 3,                         // per side
    PIXELS = REGISTERS == 32 ? 8 : 4, // whose sums are in registers together
    ROWS = 4,                         // of output gradients between two stores of the weights' sums
    CHANNELS = 4,                     // whose sums are in registers together, at the least
};

static const _Alignas(64) float ZEROS[LANES];

// ---- weights: [group of blocks written][3, 3][channels read][blocks of the group][lanes]

static size_t strided_weight_count(const struct strided *s)
{
    size_t forward = (size_t)s->in * blocks(s->out), turned = (size_t)s->out * blocks(s->in);
    return (forward > turned ? forward : turned) * TAPS * TAPS * LANES;
}

// Where the vector of `block` lies for the first tap and channel; the next channel's is *step
// floats on, the next tap's `rows` channels.
static size_t block_at(int block, int all, int rows, size_t *step)
{
    int first = 0, group;
    while (first + (group = group_blocks(all - first)) <= block)
        first += group;
    *step = (size_t)group * LANES;
    return ((size_t)first * TAPS * TAPS * rows + block - first) * LANES;
}

static void strided_arrange_weights(const struct strided *s, const float *weights, bool turned,
                                    float *arranged)
{
    int rows = turned ? s->out : s->in, columns = turned ? s->in : s->out;
    for (int column = 0; column < columns; column++) {
        size_t step, at = block_at(column / LANES, blocks(columns), rows, &step) + column % LANES;
        for (int row = 0; row < rows; row++) {
            size_t pair = turned ? (size_t)row * s->in + column : (size_t)column * s->in + row;
            for (int tap = 0; tap < TAPS * TAPS; tap++)
                arranged[at + ((size_t)tap * rows + row) * step] =
                    weights[pair * TAPS * TAPS + tap];
        }
    }
}

// ---- pixels times weights: forward and the data gradient

// sum[pixel][block] += over a block of channels or less of at[pixel][channel] w[channel][block].
INLINE void accumulate(vec sum[PIXELS][GROUP_BLOCKS], const float *const at[PIXELS], const float *w,
                       int channels, int out_blocks)
{
    _Pragma("GCC unroll 4") for (int c = 0; c < channels; c++, w += out_blocks * LANES)
    {
        vec weight[GROUP_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) weight[b] = vec_load(w + b * LANES);
        UNROLL for (int t = 0; t < PIXELS; t++)
        {
            vec value = vec_all(at[t][c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[t][b] =
                vec_fma(value, weight[b], sum[t][b]);
        }
    }
}

struct pass {
    const struct strided *s;
    const float *from, *weights, *bias, *x, *dy;
    float *to, *sums;
    bool relu;
};

// The channels of one tap, block by block of the planes read. Pixels outside are zeros; a group
// that lies inside needs one pointer.
INLINE void add_tap(vec sum[PIXELS][GROUP_BLOCKS], const float *row, size_t plane, int width,
                    int column, int step, const float *w, int channels, int out_blocks)
{
    bool inside = column >= 0 && column + (PIXELS - 1) * step < width;
    for (int c = 0; c < channels; c += LANES, row += plane, w += LANES * out_blocks * LANES) {
        const float *at[PIXELS], *first = row + (ptrdiff_t)column * LANES;
        if (inside) {
            UNROLL for (int t = 0; t < PIXELS; t++) at[t] = first + t * step * LANES;
            accumulate(sum, at, w, minimum(LANES, channels - c), out_blocks);
            continue;
        }
        UNROLL for (int t = 0; t < PIXELS; t++)
        {
            int i = column + t * step;
            at[t] = i >= 0 && i < width ? row + (size_t)i * LANES : ZEROS;
        }
        accumulate(sum, at, w, minimum(LANES, channels - c), out_blocks);
    }
}

INLINE void clear(vec sum[PIXELS][GROUP_BLOCKS], int out_blocks)
{
    UNROLL for (int t = 0; t < PIXELS; t++) UNROLL for (int b = 0; b < out_blocks; b++) sum[t][b] =
        vec_zero();
}

// Row `oy` of one image's output, for a group of blocks from `block` on.
INLINE void forward_row(const struct pass *a, const float *x, float *y, int oy, int block,
                        int out_blocks)
{
    const struct strided *s = a->s;
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    size_t tap = (size_t)s->in * out_blocks * LANES;
    const float *weights = a->weights + (size_t)block * TAPS * TAPS * s->in * LANES;
    const vec least = vec_all(a->relu ? 0.0F : -INFINITY);
    for (int ox = 0; ox < s->out_width; ox += PIXELS) {
        vec sum[PIXELS][GROUP_BLOCKS];
        clear(sum, out_blocks);
        for (int k = 0; k < TAPS * TAPS; k++) {
            int iy = 2 * oy + k / TAPS - 1;
            if (iy >= 0 && iy < s->in_height)
                add_tap(sum, x + (size_t)iy * s->in_width * LANES, in_plane, s->in_width,
                        2 * ox + k % TAPS - 1, 2, weights + k * tap, s->in, out_blocks);
        }
        for (int b = 0; b < out_blocks; b++) {
            vec bias = a->bias ? vec_load(a->bias + (block + b) * LANES) : vec_zero();
            float *to = y + (block + b) * out_plane + ((size_t)oy * s->out_width + ox) * LANES;
            UNROLL for (int t = 0; t < PIXELS; t++) if (ox + t < s->out_width)
                vec_store(to + t * LANES, vec_max(sum[t][b] + bias, least));
        }
    }
}

// Floats of an image: what the layer reads, and what it writes.
static size_t in_floats(const struct strided *s)
{
    return (size_t)s->in_height * s->in_width * LANES * blocks(s->in);
}

static size_t out_floats(const struct strided *s)
{
    return (size_t)s->out_height * s->out_width * LANES * blocks(s->out);
}

// Calls rows(…) for each image's part of [begin, end), where rows of all images are counted
// through.
static void over_images(const struct pass *a, int rows_each, size_t begin, size_t end,
                        void (*rows)(const struct pass *a, size_t image, int from, int to))
{
    while (begin < end) {
        size_t image = begin / rows_each, first = image * rows_each;
        size_t last = first + rows_each < end ? first + rows_each : end;
        rows(a, image, (int)(begin - first), (int)(last - first));
        begin = last;
    }
}

// Group after group, so that a group's weights stay in the cache.
static void forward_rows(const struct pass *a, size_t image, int from, int to)
{
    const float *x = a->from + image * in_floats(a->s);
    float *y = a->to + image * out_floats(a->s);
    int out_blocks = blocks(a->s->out);
    for (int b = 0, group; b < out_blocks; b += group) {
        group = group_blocks(out_blocks - b);
        for (int oy = from; oy < to; oy++)
            if (group == 1)
                forward_row(a, x, y, oy, b, 1);
            else if (group == 2)
                forward_row(a, x, y, oy, b, 2);
            else
                forward_row(a, x, y, oy, b, 3);
    }
}

static void forward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    (void)part;
    over_images(a, a->s->out_height, begin, end, forward_rows);
}

static void strided_forward(const struct strided *s, int threads, int count, const float *x,
                            const float *arranged, const float *bias, bool relu, float *y)
{
    struct pass pass = {
        .s = s, .from = x, .weights = arranged, .bias = bias, .relu = relu, .to = y};
    host_parallel(threads, (size_t)count * s->out_height, 1, forward_part, &pass);
}

// Row `iy` of one image's dx, a group of blocks from `block` on: pixels of even and of odd columns
// see different taps.
INLINE void backward_row(const struct pass *a, const float *dy, float *dx, int iy, int block,
                         int in_blocks)
{
    const struct strided *s = a->s;
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    size_t tap = (size_t)s->out * in_blocks * LANES;
    const float *weights = a->weights + (size_t)block * TAPS * TAPS * s->out * LANES;
    for (int first = 0; first < s->in_width; first += 2 * PIXELS)
        for (int odd = 0; odd < 2; odd++) {
            vec sum[PIXELS][GROUP_BLOCKS];
            clear(sum, in_blocks);
            for (int k = 0; k < TAPS * TAPS; k++) {
                int oy = iy + 1 - k / TAPS, ox = first + odd + 1 - k % TAPS; // twice the output's
                if (oy % 2 == 0 && ox % 2 == 0 && oy >= 0 && oy / 2 < s->out_height)
                    add_tap(sum, dy + (size_t)(oy / 2) * s->out_width * LANES, out_plane,
                            s->out_width, ox / 2, 1, weights + k * tap, s->out, in_blocks);
            }
            for (int b = 0; b < in_blocks; b++) {
                float *to =
                    dx + (block + b) * in_plane + ((size_t)iy * s->in_width + first + odd) * LANES;
                UNROLL for (int t = 0; t < PIXELS; t++) if (first + odd + 2 * t < s->in_width)
                    vec_store(to + (ptrdiff_t)t * 2 * LANES, sum[t][b]);
            }
        }
}

static void backward_rows(const struct pass *a, size_t image, int from, int to)
{
    const float *dy = a->from + image * out_floats(a->s);
    float *dx = a->to + image * in_floats(a->s);
    int in_blocks = blocks(a->s->in);
    for (int b = 0, group; b < in_blocks; b += group) {
        group = group_blocks(in_blocks - b);
        for (int iy = from; iy < to; iy++)
            if (group == 1)
                backward_row(a, dy, dx, iy, b, 1);
            else if (group == 2)
                backward_row(a, dy, dx, iy, b, 2);
            else
                backward_row(a, dy, dx, iy, b, 3);
    }
}

static void backward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    (void)part;
    over_images(a, a->s->in_height, begin, end, backward_rows);
}

static void strided_backward_data(const struct strided *s, int threads, int count, const float *dy,
                                  const float *turned, float *dx)
{
    struct pass pass = {.s = s, .from = dy, .weights = turned, .to = dx};
    host_parallel(threads, (size_t)count * s->in_height, 1, backward_part, &pass);
}

// ---- the weights' gradient: sums [group of out blocks][3, 3][in][blocks of the group][lanes]

static size_t sums_floats(const struct strided *s)
{
    return (size_t)TAPS * TAPS * round_up(s->in, CHANNELS) * blocks(s->out) * LANES;
}

static size_t strided_scratch_bytes(const struct strided *s, int threads)
{
    return sums_floats(s) * threads * sizeof(float);
}

// sums[channel][block] += over the pixels of one row of x[pixel][channel] dy[pixel][block], for
// `group` channels: x goes on by two pixels, dy by one.
INLINE void row_products(const float *x, const float *dy, size_t out_plane, int pixels,
                         vec sum[][GROUP_BLOCKS], int group, int out_blocks)
{
    for (int p = 0; p < pixels; p++, x += 2 * LANES, dy += LANES) {
        vec gradient[GROUP_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) gradient[b] = vec_load(dy + b * out_plane);
        UNROLL for (int c = 0; c < group; c++)
        {
            vec value = vec_all(x[c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
                vec_fma(value, gradient[b], sum[c][b]);
        }
    }
}

// One tap and group of channels over output rows [from, to) of an image.
INLINE void tap_products(const struct strided *s, const float *x, const float *dy, int tap,
                         int from, int to, float *sums, int group, int out_blocks)
{
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    vec sum[12][GROUP_BLOCKS];
    int ky = tap / TAPS - 1, kx = tap % TAPS - 1;
    int first = kx < 0 ? 1 : 0, last = minimum(s->out_width, (s->in_width - 1 - kx) / 2 + 1);
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
        vec_load(sums + (c * out_blocks + b) * LANES);
    for (int oy = from; oy < to; oy++) {
        int iy = 2 * oy + ky;
        if (iy >= 0 && iy < s->in_height)
            row_products(x + ((ptrdiff_t)iy * s->in_width + 2 * first + kx) * LANES,
                         dy + ((size_t)oy * s->out_width + first) * LANES, out_plane, last - first,
                         sum, group, out_blocks);
    }
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++)
        vec_store(sums + (c * out_blocks + b) * LANES, sum[c][b]);
}

// Channels whose sums with so many blocks of output are in registers together, at the most.
INLINE int channels_of(int out_blocks)
{
    return REGISTERS == 32 ? (out_blocks == 3 ? 8 : 12) : out_blocks == 1 ? 8 : CHANNELS;
}

// Every tap and channel, of a group of output blocks.
INLINE void rows_products(const struct strided *s, const float *x, const float *dy, int from,
                          int to, float *sums, int out_blocks)
{
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    int channels = round_up(s->in, CHANNELS), large = channels_of(out_blocks);
    for (int tap = 0; tap < TAPS * TAPS; tap++)
        for (int c = 0; c < channels;) {
            const float *xc = x + c / LANES * in_plane + c % LANES;
            float *sc = sums + ((size_t)tap * channels + c) * out_blocks * LANES;
            if (c + large <= channels && c % LANES + large <= LANES) {
                tap_products(s, xc, dy, tap, from, to, sc, channels_of(out_blocks), out_blocks);
                c += large;
            } else {
                tap_products(s, xc, dy, tap, from, to, sc, CHANNELS, out_blocks);
                c += CHANNELS;
            }
        }
}

static void weights_rows(const struct pass *a, size_t image, int from, int to)
{
    const struct strided *s = a->s;
    const float *x = a->x + image * in_floats(s), *dy = a->dy + image * out_floats(s);
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    size_t block = (size_t)TAPS * TAPS * round_up(s->in, CHANNELS) * LANES;
    int out_blocks = blocks(s->out);
    for (int b = 0, group; b < out_blocks; b += group) {
        group = group_blocks(out_blocks - b);
        for (int i = from * ROWS; i < to * ROWS; i += ROWS) {
            int last = minimum(i + ROWS, s->out_height);
            if (group == 1)
                rows_products(s, x, dy + b * out_plane, i, last, a->sums + b * block, 1);
            else if (group == 2)
                rows_products(s, x, dy + b * out_plane, i, last, a->sums + b * block, 2);
            else
                rows_products(s, x, dy + b * out_plane, i, last, a->sums + b * block, 3);
        }
    }
}

static int row_groups(const struct strided *s)
{
    return (s->out_height + ROWS - 1) / ROWS;
}

static void weights_part(void *context, int part, size_t begin, size_t end)
{
    struct pass a = *(const struct pass *)context;
    a.sums += part * sums_floats(a.s);
    over_images(&a, row_groups(a.s), begin, end, weights_rows);
}

static void strided_backward_weights(const struct strided *s, int threads, int count,
                                     const float *x, const float *dy, float *gradient,
                                     void *scratch)
{
    struct pass pass = {.s = s, .x = x, .dy = dy, .sums = scratch};
    float *sums = scratch;
    int rows = round_up(s->in, CHANNELS);
    memset(scratch, 0, strided_scratch_bytes(s, threads));
    host_parallel(threads, (size_t)count * row_groups(s), 1, weights_part, &pass);
    for (int part = 1; part < threads; part++) // in order, so that the bits are the same each time
        for (size_t i = 0; i < sums_floats(s); i++)
            sums[i] += sums[part * sums_floats(s) + i];
    for (int o = 0; o < s->out; o++) {
        size_t step, at = block_at(o / LANES, blocks(s->out), rows, &step) + o % LANES;
        for (int i = 0; i < s->in; i++)
            for (int k = 0; k < TAPS * TAPS; k++)
                gradient[((size_t)o * s->in + i) * TAPS * TAPS + k] =
                    sums[at + ((size_t)k * rows + i) * step];
    }
}

const struct strided_kernels FOR_THIS_SET(STRIDED) = {
    .weight_count = strided_weight_count,
    .arrange_weights = strided_arrange_weights,
    .forward = strided_forward,
    .backward_data = strided_backward_data,
    .scratch_bytes = strided_scratch_bytes,
    .backward_weights = strided_backward_weights,
};
