#include "models/cpu/winograd.h"

#include "base/error.h"

#ifdef __AVX512F__ // set for this file alone; the processor is asked before anything runs

#include <math.h>
#include <string.h>

#include "models/cpu/avx512.h"
#include "models/host/host.h"

enum {
    POINTS = WINOGRAD_POINTS,
    TILE = 4,            // outputs of a tile, per side
    PATCH = 6,           // inputs of a tile, per side
    FORWARD_TILES = 8,   // at a time: they and their products fit in the first cache
    GRADIENT_TILES = 16, // at a time: sums are loaded and stored once for all of them
    GROUP = 12,          // input channels whose sums are in registers together
    SMALL_GROUP = 4,
    // Floats between points of a tile's transform, [block][point][tile][16]: a line more than the
    // tiles take, so that 36 of them do not fall on the same few sets of the cache.
    FORWARD_POINT = (FORWARD_TILES + 1) * LANES,
    GRADIENT_POINT = (GRADIENT_TILES + 1) * LANES,
    FORWARD_BLOCK = POINTS * FORWARD_POINT,
    GRADIENT_BLOCK = POINTS * GRADIENT_POINT,
};

bool winograd_available(const struct winograd *w)
{
    return blocks(w->in) <= WINOGRAD_MAX_BLOCKS && blocks(w->out) <= WINOGRAD_MAX_BLOCKS &&
           __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

// ---- one-dimensional transforms of six or four vectors

// Bᵀ d.
INLINE void input_6(const __m512 d[PATCH], __m512 t[PATCH])
{
    const __m512 four = _mm512_set1_ps(4.0F), five = _mm512_set1_ps(5.0F), two = _mm512_set1_ps(2);
    __m512 a = _mm512_fnmadd_ps(four, d[2], d[4]), b = _mm512_fnmadd_ps(four, d[1], d[3]);
    __m512 c = _mm512_sub_ps(d[4], d[2]), e = _mm512_sub_ps(d[3], d[1]);
    t[0] = _mm512_fmadd_ps(four, d[0], _mm512_fnmadd_ps(five, d[2], d[4]));
    t[1] = _mm512_add_ps(a, b);
    t[2] = _mm512_sub_ps(a, b);
    t[3] = _mm512_fmadd_ps(two, e, c);
    t[4] = _mm512_fnmadd_ps(two, e, c);
    t[5] = _mm512_fmadd_ps(four, d[1], _mm512_fnmadd_ps(five, d[3], d[5]));
}

// Aᵀ m.
INLINE void output_4(const __m512 m[PATCH], __m512 y[TILE])
{
    const __m512 two = _mm512_set1_ps(2.0F), four = _mm512_set1_ps(4.0F), eight = _mm512_set1_ps(8);
    __m512 p = _mm512_add_ps(m[1], m[2]), q = _mm512_sub_ps(m[1], m[2]);
    __m512 r = _mm512_add_ps(m[3], m[4]), s = _mm512_sub_ps(m[3], m[4]);
    y[0] = _mm512_add_ps(m[0], _mm512_add_ps(p, r));
    y[1] = _mm512_fmadd_ps(two, s, q);
    y[2] = _mm512_fmadd_ps(four, r, p);
    y[3] = _mm512_add_ps(m[5], _mm512_fmadd_ps(eight, s, q));
}

// A y.
INLINE void gradient_6(const __m512 y[TILE], __m512 t[PATCH])
{
    const __m512 two = _mm512_set1_ps(2.0F), four = _mm512_set1_ps(4.0F);
    __m512 e = _mm512_add_ps(y[0], y[2]), o = _mm512_add_ps(y[1], y[3]);
    __m512 f = _mm512_fmadd_ps(four, y[2], y[0]), g = _mm512_fmadd_ps(four, y[3], y[1]);
    t[0] = y[0];
    t[1] = _mm512_add_ps(e, o);
    t[2] = _mm512_sub_ps(e, o);
    t[3] = _mm512_fmadd_ps(two, g, f);
    t[4] = _mm512_fnmadd_ps(two, g, f);
    t[5] = y[3];
}

// ---- where a tile lies: rows and columns outside the picture are read as zeros

struct tiles { // of a plane [height, width, 16]
    int across, an_image;
    int height, width;
};

static struct tiles tiles_of(const struct winograd *w)
{
    int across = (w->width + TILE - 1) / TILE, down = (w->height + TILE - 1) / TILE;
    return (struct tiles){across, across * down, w->height, w->width};
}

struct window {
    const float *row[PATCH]; // each row's first vector, or one of zeros
    __mmask16 column[PATCH];
};

static const _Alignas(64) float ZEROS[PATCH * LANES];

// side × side vectors of a plane from (top, left).
INLINE void window_at(struct window *win, const struct tiles *t, const float *plane, int top,
                      int left, int side)
{
    for (int i = 0; i < side; i++) {
        bool row_there = top + i >= 0 && top + i < t->height;
        bool column_there = left + i >= 0 && left + i < t->width;
        win->row[i] = row_there ? plane + ((ptrdiff_t)(top + i) * t->width + left) * LANES : ZEROS;
        win->column[i] = column_there ? 0xFFFF : 0;
    }
}

// ---- two-dimensional transforms; point i * 6 + j of the result goes to out + (i * 6 + j) * stride

INLINE void tile_input(const struct tiles *t, const float *plane, int index, float *out, int stride)
{
    __m512 columns[PATCH][PATCH], in[PATCH], r[PATCH];
    struct window win;
    window_at(&win, t, plane, index / t->across * TILE - 1, index % t->across * TILE - 1, PATCH);
    UNROLL for (int j = 0; j < PATCH; j++)
    {
        UNROLL for (int i = 0; i < PATCH; i++) in[i] =
            _mm512_maskz_load_ps(win.column[j], win.row[i] + j * LANES);
        input_6(in, r);
        UNROLL for (int i = 0; i < PATCH; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < PATCH; i++)
    {
        input_6(columns[i], r);
        UNROLL for (int j = 0; j < PATCH; j++)
            _mm512_store_ps(out + (i * PATCH + j) * stride, r[j]);
    }
}

INLINE void tile_gradient(const struct tiles *t, const float *plane, int index, float *out,
                          int stride)
{
    __m512 columns[PATCH][TILE], in[TILE], r[PATCH];
    struct window win;
    window_at(&win, t, plane, index / t->across * TILE, index % t->across * TILE, TILE);
    UNROLL for (int j = 0; j < TILE; j++)
    {
        UNROLL for (int i = 0; i < TILE; i++) in[i] =
            _mm512_maskz_load_ps(win.column[j], win.row[i] + j * LANES);
        gradient_6(in, r);
        UNROLL for (int i = 0; i < PATCH; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < PATCH; i++)
    {
        gradient_6(columns[i], r);
        UNROLL for (int j = 0; j < PATCH; j++)
            _mm512_store_ps(out + (i * PATCH + j) * stride, r[j]);
    }
}

// Plus bias, through ReLU when asked.
INLINE void tile_output(const struct tiles *t, const float *m, int stride, __m512 bias, bool relu,
                        float *plane, int index)
{
    __m512 columns[TILE][PATCH], in[PATCH], r[TILE];
    const __m512 least = _mm512_set1_ps(relu ? 0.0F : -INFINITY);
    int top = index / t->across * TILE, left = index % t->across * TILE;
    float *y = plane + ((size_t)top * t->width + left) * LANES;
    UNROLL for (int j = 0; j < PATCH; j++)
    {
        UNROLL for (int i = 0; i < PATCH; i++) in[i] = _mm512_load_ps(m + (i * PATCH + j) * stride);
        output_4(in, r);
        UNROLL for (int i = 0; i < TILE; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < TILE; i++)
    {
        if (top + i >= t->height)
            break;
        output_4(columns[i], r);
        UNROLL for (int j = 0; j < TILE; j++) if (left + j < t->width)
            _mm512_store_ps(y + ((size_t)i * t->width + j) * LANES,
                            _mm512_max_ps(_mm512_add_ps(r[j], bias), least));
    }
}

// ---- weights: [point][in][blocks of out][16]

size_t winograd_weight_count(const struct winograd *w)
{
    return (size_t)POINTS * w->in * blocks(w->out) * LANES;
}

static const float G[PATCH][3] = {{1.0F / 4, 0.0F, 0.0F},
                                  {-1.0F / 6, -1.0F / 6, -1.0F / 6},
                                  {-1.0F / 6, 1.0F / 6, -1.0F / 6},
                                  {1.0F / 24, 1.0F / 12, 1.0F / 6},
                                  {1.0F / 24, -1.0F / 12, 1.0F / 6},
                                  {0.0F, 0.0F, 1.0F}};

// u[36] = G g Gᵀ.
static void transform_kernel(const float g[9], float u[POINTS])
{
    float rows[PATCH][3];
    for (int i = 0; i < PATCH; i++)
        for (int j = 0; j < 3; j++)
            rows[i][j] = G[i][0] * g[j] + G[i][1] * g[3 + j] + G[i][2] * g[6 + j];
    for (int i = 0; i < PATCH; i++)
        for (int j = 0; j < PATCH; j++)
            u[i * PATCH + j] = rows[i][0] * G[j][0] + rows[i][1] * G[j][1] + rows[i][2] * G[j][2];
}

void winograd_transform_weights(const struct winograd *w, const float *weights, bool turned,
                                float *transformed)
{
    size_t lanes = (size_t)blocks(w->out) * LANES;
    for (int o = 0; o < w->out; o++)
        for (int i = 0; i < w->in; i++) {
            float g[9], u[POINTS];
            const float *from =
                weights + (turned ? (size_t)i * w->out + o : (size_t)o * w->in + i) * 9;
            for (int k = 0; k < 9; k++)
                g[k] = from[turned ? 8 - k : k];
            transform_kernel(g, u);
            for (int p = 0; p < POINTS; p++)
                transformed[((size_t)p * w->in + i) * lanes + o] = u[p];
        }
}

// ---- forward

// m[block][tile] = sum over channels of v[tile][channel] u[channel][block], 8 tiles, of one point.
INLINE void products(const float *v, const float *u, int channels, int out_blocks, float *m)
{
    __m512 sum[WINOGRAD_MAX_BLOCKS][FORWARD_TILES];
    UNROLL for (int b = 0; b < out_blocks; b++) UNROLL for (int t = 0; t < FORWARD_TILES; t++)
        sum[b][t] = _mm512_setzero_ps();
    for (; channels > 0; channels -= LANES, v += FORWARD_BLOCK)
        for (int c = 0; c < LANES && c < channels; c++, u += out_blocks * LANES) {
            __m512 weight[WINOGRAD_MAX_BLOCKS];
            UNROLL for (int b = 0; b < out_blocks; b++) weight[b] = _mm512_load_ps(u + b * LANES);
            UNROLL for (int t = 0; t < FORWARD_TILES; t++)
            {
                __m512 value = _mm512_set1_ps(v[t * LANES + c]);
                UNROLL for (int b = 0; b < out_blocks; b++) sum[b][t] =
                    _mm512_fmadd_ps(value, weight[b], sum[b][t]);
            }
        }
    UNROLL for (int b = 0; b < out_blocks; b++) UNROLL for (int t = 0; t < FORWARD_TILES; t++)
        _mm512_store_ps(m + b * FORWARD_BLOCK + t * LANES, sum[b][t]);
}

static void products_all(const float *v, const float *u, int channels, int out_blocks, float *m)
{
    size_t u_point = (size_t)channels * out_blocks * LANES;
    for (int p = 0; p < POINTS; p++, v += FORWARD_POINT, u += u_point, m += FORWARD_POINT)
        if (out_blocks == 1)
            products(v, u, channels, 1, m);
        else
            products(v, u, channels, 2, m);
}

struct pass {
    const struct winograd *w;
    struct tiles tiles;
    const float *x, *transformed, *bias, *dy;
    float *y, *scratch;
    size_t part_floats; // of scratch
    bool relu;
};

static size_t forward_floats(const struct winograd *w)
{
    return (size_t)FORWARD_BLOCK * (blocks(w->in) + blocks(w->out));
}

// Tiles [begin, end) of the whole batch, in order of (image, row, column).
static void forward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    int in_blocks = blocks(a->w->in), out_blocks = blocks(a->w->out);
    size_t plane = (size_t)a->w->height * a->w->width * LANES, an_image = a->tiles.an_image;
    float *v = a->scratch + part * a->part_floats;
    float *m = v + (size_t)FORWARD_BLOCK * in_blocks;
    for (size_t first = begin; first < end; first += FORWARD_TILES) {
        size_t last = first + FORWARD_TILES < end ? first + FORWARD_TILES : end;
        for (size_t i = first; i < last; i++)
            for (int b = 0; b < in_blocks; b++)
                tile_input(&a->tiles, a->x + (i / an_image * in_blocks + b) * plane,
                           (int)(i % an_image), v + b * FORWARD_BLOCK + (i - first) * LANES,
                           FORWARD_POINT);
        products_all(v, a->transformed, a->w->in, out_blocks, m);
        for (size_t i = first; i < last; i++)
            for (int b = 0; b < out_blocks; b++) {
                __m512 bias = a->bias ? _mm512_loadu_ps(a->bias + b * LANES) : _mm512_setzero_ps();
                tile_output(&a->tiles, m + b * FORWARD_BLOCK + (i - first) * LANES, FORWARD_POINT,
                            bias, a->relu, a->y + (i / an_image * out_blocks + b) * plane,
                            (int)(i % an_image));
            }
    }
}

void winograd_forward(const struct winograd *w, int threads, int count, const float *x,
                      const float *transformed, const float *bias, bool relu, float *y,
                      void *scratch)
{
    struct pass pass = {.w = w,
                        .tiles = tiles_of(w),
                        .x = x,
                        .transformed = transformed,
                        .bias = bias,
                        .relu = relu,
                        .y = y,
                        .scratch = scratch,
                        .part_floats = forward_floats(w)};
    // Products run over 8 tiles at a time, whatever the last ones of a part hold.
    host_parallel(threads, (size_t)count * pass.tiles.an_image, FORWARD_TILES, forward_part, &pass);
}

// ---- the weights' gradient

// sums[channel][block] += over tiles of v[tile][channel] d[tile][block], `group` channels, one
// point.
INLINE void outer(const float *v, const float *d, int group, int out_blocks, float *sums)
{
    __m512 sum[GROUP][WINOGRAD_MAX_BLOCKS];
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
        _mm512_load_ps(sums + (c * out_blocks + b) * LANES);
    for (int t = 0; t < GRADIENT_TILES; t++) {
        __m512 gradient[WINOGRAD_MAX_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) gradient[b] =
            _mm512_load_ps(d + b * GRADIENT_BLOCK + t * LANES);
        UNROLL for (int c = 0; c < group; c++)
        {
            __m512 value = _mm512_set1_ps(v[t * LANES + c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
                _mm512_fmadd_ps(value, gradient[b], sum[c][b]);
        }
    }
    UNROLL for (int c = 0; c < group; c++) UNROLL for (int b = 0; b < out_blocks; b++)
        _mm512_store_ps(sums + (c * out_blocks + b) * LANES, sum[c][b]);
}

// All channels of one point. Groups do not straddle blocks: 12 + 4 of each, as far as there are.
static void outer_all(const struct winograd *w, const float *v, const float *d, float *sums)
{
    int out_blocks = blocks(w->out), channels = round_up(w->in, SMALL_GROUP);
    for (int c = 0; c < channels;) {
        const float *vc = v + c / LANES * GRADIENT_BLOCK + c % LANES;
        float *sc = sums + c * out_blocks * LANES;
        bool large = c + GROUP <= channels && c % LANES + GROUP <= LANES;
        if (large && out_blocks == 1)
            outer(vc, d, GROUP, 1, sc);
        else if (large)
            outer(vc, d, GROUP, 2, sc);
        else if (out_blocks == 1)
            outer(vc, d, SMALL_GROUP, 1, sc);
        else
            outer(vc, d, SMALL_GROUP, 2, sc);
        c += large ? GROUP : SMALL_GROUP;
    }
}

static size_t sums_floats(const struct winograd *w)
{
    return (size_t)POINTS * round_up(w->in, SMALL_GROUP) * blocks(w->out) * LANES;
}

static size_t gradient_floats(const struct winograd *w)
{
    return sums_floats(w) + (size_t)GRADIENT_BLOCK * (blocks(w->in) + blocks(w->out));
}

size_t winograd_scratch_bytes(const struct winograd *w, int threads, bool for_weights)
{
    return (for_weights ? gradient_floats(w) : forward_floats(w)) * threads * sizeof(float);
}

static void gradient_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    int in_blocks = blocks(a->w->in), out_blocks = blocks(a->w->out);
    size_t plane = (size_t)a->w->height * a->w->width * LANES, an_image = a->tiles.an_image;
    float *sums = a->scratch + part * a->part_floats, *v = sums + sums_floats(a->w);
    float *d = v + (size_t)GRADIENT_BLOCK * in_blocks;
    size_t sums_point = sums_floats(a->w) / POINTS;
    for (size_t first = begin; first < end; first += GRADIENT_TILES) {
        size_t last = first + GRADIENT_TILES < end ? first + GRADIENT_TILES : end;
        if (last - first < GRADIENT_TILES) // tiles that are not there add nothing
            memset(v, 0, (size_t)GRADIENT_BLOCK * (in_blocks + out_blocks) * sizeof(float));
        for (size_t i = first; i < last; i++) {
            for (int b = 0; b < in_blocks; b++)
                tile_input(&a->tiles, a->x + (i / an_image * in_blocks + b) * plane,
                           (int)(i % an_image), v + b * GRADIENT_BLOCK + (i - first) * LANES,
                           GRADIENT_POINT);
            for (int b = 0; b < out_blocks; b++)
                tile_gradient(&a->tiles, a->dy + (i / an_image * out_blocks + b) * plane,
                              (int)(i % an_image), d + b * GRADIENT_BLOCK + (i - first) * LANES,
                              GRADIENT_POINT);
        }
        for (int p = 0; p < POINTS; p++)
            outer_all(a->w, v + p * GRADIENT_POINT, d + p * GRADIENT_POINT, sums + p * sums_point);
    }
}

// g[3][3] = Gᵀ u G of one pair of channels, whose 36 sums are `stride` floats apart.
static void turn_back(const float *u, size_t stride, float g[9])
{
    float rows[3][PATCH];
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < PATCH; j++) {
            rows[k][j] = 0.0F;
            for (int i = 0; i < PATCH; i++)
                rows[k][j] += G[i][k] * u[(size_t)(i * PATCH + j) * stride];
        }
    for (int k = 0; k < 3; k++)
        for (int l = 0; l < 3; l++) {
            g[k * 3 + l] = 0.0F;
            for (int j = 0; j < PATCH; j++)
                g[k * 3 + l] += rows[k][j] * G[j][l];
        }
}

void winograd_backward_weights(const struct winograd *w, int threads, int count, const float *x,
                               const float *dy, float *gradient, void *scratch)
{
    struct pass pass = {.w = w,
                        .tiles = tiles_of(w),
                        .x = x,
                        .dy = dy,
                        .scratch = scratch,
                        .part_floats = gradient_floats(w)};
    size_t row = (size_t)blocks(w->out) * LANES, point = round_up(w->in, SMALL_GROUP) * row;
    for (int part = 0; part < threads; part++)
        memset(pass.scratch + part * pass.part_floats, 0, sums_floats(w) * sizeof(float));
    host_parallel(threads, (size_t)count * pass.tiles.an_image, GRADIENT_TILES, gradient_part,
                  &pass);
    for (int part = 1; part < threads; part++) // in order, so that the bits are the same each time
        for (size_t i = 0; i < sums_floats(w); i++)
            pass.scratch[i] += pass.scratch[part * pass.part_floats + i];
    for (int o = 0; o < w->out; o++)
        for (int i = 0; i < w->in; i++)
            turn_back(pass.scratch + i * row + o, point, gradient + ((size_t)o * w->in + i) * 9);
}

#else // no AVX-512 in this build: nobody calls the rest

#define NOT_HERE CHECK(!"winograd.h is asked for where it is not available")

bool winograd_available(const struct winograd *w)
{
    (void)w;
    return false;
}
size_t winograd_weight_count(const struct winograd *w)
{
    (void)w;
    NOT_HERE;
    return 0;
}
size_t winograd_scratch_bytes(const struct winograd *w, int threads, bool for_weights)
{
    (void)w, (void)threads, (void)for_weights;
    NOT_HERE;
    return 0;
}
void winograd_transform_weights(const struct winograd *w, const float *weights, bool turned,
                                float *transformed)
{
    (void)w, (void)weights, (void)turned, (void)transformed;
    NOT_HERE;
}
void winograd_forward(const struct winograd *w, int threads, int count, const float *x,
                      const float *transformed, const float *bias, bool relu, float *y,
                      void *scratch)
{
    (void)w, (void)threads, (void)count, (void)x, (void)transformed, (void)bias, (void)relu;
    (void)y, (void)scratch;
    NOT_HERE;
}
void winograd_backward_weights(const struct winograd *w, int threads, int count, const float *x,
                               const float *dy, float *gradient, void *scratch)
{
    (void)w, (void)threads, (void)count, (void)x, (void)dy, (void)gradient, (void)scratch;
    NOT_HERE;
}

#endif
