#include "models/cpu/strided.h"

#include "base/error.h"

#ifdef __AVX512F__

#include <math.h>
#include <string.h>

#include "models/cpu/avx512.h"
#include "models/host/host.h"

enum {
    TAPS = 3,        // per side
    PIXELS = 8,      // whose sums are in registers together
    ROWS = 4,        // of output gradients between two stores of the weights' sums
    SMALL_GROUP = 4, // input channels whose sums are in registers together, at the least
};

static const _Alignas(64) float ZEROS[LANES];

bool strided_available(const struct strided *s)
{
    return blocks(s->in) <= STRIDED_IN_BLOCKS && blocks(s->out) <= STRIDED_OUT_BLOCKS &&
           s->out_height == (s->in_height + 1) / 2 && s->out_width == (s->in_width + 1) / 2 &&
           __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

size_t strided_weight_count(const struct strided *s)
{
    size_t forward = (size_t)s->in * blocks(s->out), turned = (size_t)s->out * blocks(s->in);
    return (forward > turned ? forward : turned) * TAPS * TAPS * LANES;
}

void strided_arrange_weights(const struct strided *s, const float *weights, bool turned,
                             float *arranged)
{
    int rows = turned ? s->out : s->in, lanes = blocks(turned ? s->in : s->out) * LANES;
    for (int o = 0; o < s->out; o++)
        for (int i = 0; i < s->in; i++)
            for (int tap = 0; tap < TAPS * TAPS; tap++) {
                size_t row = (size_t)tap * rows + (turned ? o : i);
                arranged[row * lanes + (turned ? i : o)] =
                    weights[((size_t)o * s->in + i) * TAPS * TAPS + tap];
            }
}

// ---- pixels times weights: forward and the data gradient

// sum[pixel][block] += over 16 channels or fewer of at[pixel][channel] w[channel][block].
INLINE void accumulate(__m512 sum[PIXELS][STRIDED_OUT_BLOCKS], const float *const at[PIXELS],
                       const float *w, int channels, int out_blocks)
{
    _Pragma("GCC unroll 4") for (int c = 0; c < channels; c++, w += out_blocks * LANES)
    {
        __m512 weight[STRIDED_OUT_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) weight[b] = _mm512_load_ps(w + b * LANES);
        UNROLL for (int t = 0; t < PIXELS; t++)
        {
            __m512 value = _mm512_set1_ps(at[t][c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[t][b] =
                _mm512_fmadd_ps(value, weight[b], sum[t][b]);
        }
    }
}

struct pass {
    const struct strided *s;
    const float *from, *weights, *bias, *x, *dy;
    float *to, *scratch;
    bool relu;
};

static int minimum(int a, int b)
{
    return a < b ? a : b;
}

// The channels of one tap, block by block of the planes read. Pixels outside are zeros.
INLINE void add_tap(__m512 sum[PIXELS][STRIDED_OUT_BLOCKS], const float *row, size_t plane,
                    int width, int column, int step, const float *w, int channels, int out_blocks)
{
    for (int c = 0; c < channels; c += LANES, row += plane) {
        const float *at[PIXELS];
        UNROLL for (int t = 0; t < PIXELS; t++)
        {
            int i = column + t * step;
            at[t] = i >= 0 && i < width ? row + (size_t)i * LANES : ZEROS;
        }
        accumulate(sum, at, w + (size_t)c * out_blocks * LANES, minimum(LANES, channels - c),
                   out_blocks);
    }
}

INLINE void clear(__m512 sum[PIXELS][STRIDED_OUT_BLOCKS], int out_blocks)
{
    UNROLL for (int t = 0; t < PIXELS; t++) UNROLL for (int b = 0; b < out_blocks; b++) sum[t][b] =
        _mm512_setzero_ps();
}

// Row `oy` of one image's output.
INLINE void forward_row(const struct pass *a, const float *x, float *y, int oy, int out_blocks)
{
    const struct strided *s = a->s;
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    size_t tap = (size_t)s->in * out_blocks * LANES;
    const __m512 least = _mm512_set1_ps(a->relu ? 0.0F : -INFINITY);
    for (int ox = 0; ox < s->out_width; ox += PIXELS) {
        __m512 sum[PIXELS][STRIDED_OUT_BLOCKS];
        clear(sum, out_blocks);
        for (int k = 0; k < TAPS * TAPS; k++) {
            int iy = 2 * oy + k / TAPS - 1;
            if (iy >= 0 && iy < s->in_height)
                add_tap(sum, x + (size_t)iy * s->in_width * LANES, in_plane, s->in_width,
                        2 * ox + k % TAPS - 1, 2, a->weights + k * tap, s->in, out_blocks);
        }
        for (int b = 0; b < out_blocks; b++) {
            __m512 bias = a->bias ? _mm512_loadu_ps(a->bias + b * LANES) : _mm512_setzero_ps();
            float *to = y + b * out_plane + ((size_t)oy * s->out_width + ox) * LANES;
            UNROLL for (int t = 0; t < PIXELS; t++) if (ox + t < s->out_width) _mm512_store_ps(
                to + t * LANES, _mm512_max_ps(_mm512_add_ps(sum[t][b], bias), least));
        }
    }
}

static void forward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    const struct strided *s = a->s;
    int out_blocks = blocks(s->out);
    size_t in_image = (size_t)s->in_height * s->in_width * LANES * blocks(s->in);
    size_t out_image = (size_t)s->out_height * s->out_width * LANES * out_blocks;
    (void)part;
    for (size_t i = begin; i < end; i++) {
        const float *x = a->from + i / s->out_height * in_image;
        float *y = a->to + i / s->out_height * out_image;
        int oy = (int)(i % s->out_height);
        if (out_blocks == 1)
            forward_row(a, x, y, oy, 1);
        else if (out_blocks == 2)
            forward_row(a, x, y, oy, 2);
        else
            forward_row(a, x, y, oy, 3);
    }
}

void strided_forward(const struct strided *s, int threads, int count, const float *x,
                     const float *arranged, const float *bias, bool relu, float *y)
{
    struct pass pass = {
        .s = s, .from = x, .weights = arranged, .bias = bias, .relu = relu, .to = y};
    host_parallel(threads, (size_t)count * s->out_height, 1, forward_part, &pass);
}

// Row `iy` of one image's dx: pixels of even and of odd columns see different taps.
INLINE void backward_row(const struct pass *a, const float *dy, float *dx, int iy, int in_blocks)
{
    const struct strided *s = a->s;
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    size_t tap = (size_t)s->out * in_blocks * LANES;
    for (int first = 0; first < s->in_width; first += 2 * PIXELS)
        for (int odd = 0; odd < 2; odd++) {
            __m512 sum[PIXELS][STRIDED_OUT_BLOCKS];
            clear(sum, in_blocks);
            for (int k = 0; k < TAPS * TAPS; k++) {
                int oy = iy + 1 - k / TAPS, ox = first + odd + 1 - k % TAPS; // twice the output's
                if (oy % 2 == 0 && ox % 2 == 0 && oy >= 0 && oy / 2 < s->out_height)
                    add_tap(sum, dy + (size_t)(oy / 2) * s->out_width * LANES, out_plane,
                            s->out_width, ox / 2, 1, a->weights + k * tap, s->out, in_blocks);
            }
            for (int b = 0; b < in_blocks; b++) {
                float *to = dx + b * in_plane + ((size_t)iy * s->in_width + first + odd) * LANES;
                UNROLL for (int t = 0; t < PIXELS; t++) if (first + odd + 2 * t < s->in_width)
                    _mm512_store_ps(to + (ptrdiff_t)t * 2 * LANES, sum[t][b]);
            }
        }
}

static void backward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    const struct strided *s = a->s;
    int in_blocks = blocks(s->in);
    size_t in_image = (size_t)s->in_height * s->in_width * LANES * in_blocks;
    size_t out_image = (size_t)s->out_height * s->out_width * LANES * blocks(s->out);
    (void)part;
    for (size_t i = begin; i < end; i++) {
        const float *dy = a->from + i / s->in_height * out_image;
        float *dx = a->to + i / s->in_height * in_image;
        if (in_blocks == 1)
            backward_row(a, dy, dx, (int)(i % s->in_height), 1);
        else
            backward_row(a, dy, dx, (int)(i % s->in_height), 2);
    }
}

void strided_backward_data(const struct strided *s, int threads, int count, const float *dy,
                           const float *turned, float *dx)
{
    struct pass pass = {.s = s, .from = dy, .weights = turned, .to = dx};
    host_parallel(threads, (size_t)count * s->in_height, 1, backward_part, &pass);
}

// ---- the weights' gradient: sums [3, 3, in, blocks of out, 16]

static size_t sums_floats(const struct strided *s)
{
    return (size_t)TAPS * TAPS * round_up(s->in, SMALL_GROUP) * blocks(s->out) * LANES;
}

size_t strided_scratch_bytes(const struct strided *s, int threads)
{
    return sums_floats(s) * threads * sizeof(float);
}

// sums[channel][block] += over the pixels of one row of x[pixel][channel] dy[pixel][block], for
// `group` channels: x goes on by two pixels, dy by one.
INLINE void row_products(const float *x, const float *dy, size_t out_plane, int pixels,
                         __m512 sum[][STRIDED_OUT_BLOCKS], int group, int out_blocks)
{
    for (int p = 0; p < pixels; p++, x += 2 * LANES, dy += LANES) {
        __m512 gradient[STRIDED_OUT_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) gradient[b] =
            _mm512_load_ps(dy + b * out_plane);
        UNROLL for (int c = 0; c < group; c++)
        {
            __m512 value = _mm512_set1_ps(x[c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
                _mm512_fmadd_ps(value, gradient[b], sum[c][b]);
        }
    }
}

// One tap and group of channels over output rows [from, to) of an image.
INLINE void tap_products(const struct strided *s, const float *x, const float *dy, int tap,
                         int from, int to, float *sums, int group, int out_blocks)
{
    size_t out_plane = (size_t)s->out_height * s->out_width * LANES;
    __m512 sum[12][STRIDED_OUT_BLOCKS];
    int ky = tap / TAPS - 1, kx = tap % TAPS - 1;
    int first = kx < 0 ? 1 : 0, last = minimum(s->out_width, (s->in_width - 1 - kx) / 2 + 1);
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
        _mm512_load_ps(sums + (c * out_blocks + b) * LANES);
    for (int oy = from; oy < to; oy++) {
        int iy = 2 * oy + ky;
        if (iy >= 0 && iy < s->in_height)
            row_products(x + ((ptrdiff_t)iy * s->in_width + 2 * first + kx) * LANES,
                         dy + ((size_t)oy * s->out_width + first) * LANES, out_plane, last - first,
                         sum, group, out_blocks);
    }
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++)
        _mm512_store_ps(sums + (c * out_blocks + b) * LANES, sum[c][b]);
}

// `large`: as many channels as 32 registers allow.
INLINE void rows_products(const struct strided *s, const float *x, const float *dy, int from,
                          int to, float *sums, int large, int out_blocks)
{
    size_t in_plane = (size_t)s->in_height * s->in_width * LANES;
    int channels = round_up(s->in, SMALL_GROUP);
    for (int tap = 0; tap < TAPS * TAPS; tap++)
        for (int c = 0; c < channels;) {
            const float *xc = x + c / LANES * in_plane + c % LANES;
            float *sc = sums + ((size_t)tap * channels + c) * out_blocks * LANES;
            if (c + large <= channels && c % LANES + large <= LANES) {
                tap_products(s, xc, dy, tap, from, to, sc, large, out_blocks);
                c += large;
            } else {
                tap_products(s, xc, dy, tap, from, to, sc, SMALL_GROUP, out_blocks);
                c += SMALL_GROUP;
            }
        }
}

static int row_groups(const struct strided *s)
{
    return (s->out_height + ROWS - 1) / ROWS;
}

static void weights_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    const struct strided *s = a->s;
    int out_blocks = blocks(s->out), groups = row_groups(s);
    size_t in_image = (size_t)s->in_height * s->in_width * LANES * blocks(s->in);
    size_t out_image = (size_t)s->out_height * s->out_width * LANES * out_blocks;
    float *sums = a->scratch + part * sums_floats(s);
    for (size_t i = begin; i < end; i++) {
        const float *x = a->x + i / groups * in_image, *dy = a->dy + i / groups * out_image;
        int from = (int)(i % groups) * ROWS, to = minimum(from + ROWS, s->out_height);
        if (out_blocks == 1)
            rows_products(s, x, dy, from, to, sums, 12, 1);
        else if (out_blocks == 2)
            rows_products(s, x, dy, from, to, sums, 12, 2);
        else
            rows_products(s, x, dy, from, to, sums, 8, 3);
    }
}

void strided_backward_weights(const struct strided *s, int threads, int count, const float *x,
                              const float *dy, float *gradient, void *scratch)
{
    struct pass pass = {.s = s, .x = x, .dy = dy, .scratch = scratch};
    float *sums = scratch;
    size_t lanes = (size_t)blocks(s->out) * LANES, tap = round_up(s->in, SMALL_GROUP) * lanes;
    memset(scratch, 0, strided_scratch_bytes(s, threads));
    host_parallel(threads, (size_t)count * row_groups(s), 1, weights_part, &pass);
    for (int part = 1; part < threads; part++) // in order, so that the bits are the same each time
        for (size_t i = 0; i < sums_floats(s); i++)
            sums[i] += sums[part * sums_floats(s) + i];
    for (int o = 0; o < s->out; o++)
        for (int i = 0; i < s->in; i++)
            for (int k = 0; k < TAPS * TAPS; k++)
                gradient[((size_t)o * s->in + i) * TAPS * TAPS + k] = sums[k * tap + i * lanes + o];
}

#else // no AVX-512 in this build: nobody calls the rest

bool strided_available(const struct strided *s)
{
    (void)s;
    return false;
}

#define NOT_HERE CHECK(!"strided.h is asked for where it is not available")

size_t strided_weight_count(const struct strided *s)
{
    (void)s;
    NOT_HERE;
    return 0;
}
void strided_arrange_weights(const struct strided *s, const float *weights, bool turned,
                             float *arranged)
{
    (void)s, (void)weights, (void)turned, (void)arranged;
    NOT_HERE;
}
void strided_forward(const struct strided *s, int threads, int count, const float *x,
                     const float *arranged, const float *bias, bool relu, float *y)
{
    (void)s, (void)threads, (void)count, (void)x, (void)arranged, (void)bias, (void)relu, (void)y;
    NOT_HERE;
}
void strided_backward_data(const struct strided *s, int threads, int count, const float *dy,
                           const float *turned, float *dx)
{
    (void)s, (void)threads, (void)count, (void)dy, (void)turned, (void)dx;
    NOT_HERE;
}
size_t strided_scratch_bytes(const struct strided *s, int threads)
{
    (void)s, (void)threads;
    NOT_HERE;
    return 0;
}
void strided_backward_weights(const struct strided *s, int threads, int count, const float *x,
                              const float *dy, float *gradient, void *scratch)
{
    (void)s, (void)threads, (void)count, (void)x, (void)dy, (void)gradient, (void)scratch;
    NOT_HERE;
}

#endif
