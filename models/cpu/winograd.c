#include "models/cpu/winograd.h"

#include <math.h>
#include <string.h>

#include "models/cpu/vec.h"
#include "models/host/host.h"

enum {
    POINTS = 36,
    TAPS = 3,  // per side
    TILE = 4,  // outputs of a tile, per side
    PATCH = 6, // inputs of a tile, per side
    // Tiles at a time, at the most: forward they and their products fit in a cache, for the weights
    // sums are loaded and stored once for all of them.
    FORWARD_TILES = REGISTERS == 32 ? 8 : 28,
    GRADIENT_TILES = REGISTERS == 32 ? 16 : 28,
    LINE = 16, // floats of a line of the caches
    SECOND_CACHE_BYTES = 512 << 10,
    CHANNELS = 4, // whose sums are in registers together, at the least
    // Floats between points of a tile's transform, [block][point][tile][lanes]: a line more than
    // the tiles take, so that 36 of them do not fall on the same few sets of the cache.
    FORWARD_POINT = (FORWARD_TILES + 1) * LANES,
    GRADIENT_POINT = (GRADIENT_TILES + 1) * LANES,
    FORWARD_BLOCK = POINTS * FORWARD_POINT,
    GRADIENT_BLOCK = POINTS * GRADIENT_POINT,
    STAGED_POINT = CHANNELS * GROUP_BLOCKS * LANES + LINE, // of weights on their way to memory
};

// ---- one-dimensional transforms of six or four vectors

// Bᵀ d.
INLINE void input_6(const vec d[PATCH], vec t[PATCH])
{
    const vec four = vec_all(4.0F), five = vec_all(5.0F), two = vec_all(2.0F);
    vec a = vec_fnma(four, d[2], d[4]), b = vec_fnma(four, d[1], d[3]);
    vec c = d[4] - d[2], e = d[3] - d[1];
    t[0] = vec_fma(four, d[0], vec_fnma(five, d[2], d[4]));
    t[1] = a + b;
    t[2] = a - b;
    t[3] = vec_fma(two, e, c);
    t[4] = vec_fnma(two, e, c);
    t[5] = vec_fma(four, d[1], vec_fnma(five, d[3], d[5]));
}

// Aᵀ m.
INLINE void output_4(const vec m[PATCH], vec y[TILE])
{
    const vec two = vec_all(2.0F), four = vec_all(4.0F), eight = vec_all(8.0F);
    vec p = m[1] + m[2], q = m[1] - m[2];
    vec r = m[3] + m[4], s = m[3] - m[4];
    y[0] = m[0] + (p + r);
    y[1] = vec_fma(two, s, q);
    y[2] = vec_fma(four, r, p);
    y[3] = m[5] + vec_fma(eight, s, q);
}

// A y.
INLINE void gradient_6(const vec y[TILE], vec t[PATCH])
{
    const vec two = vec_all(2.0F), four = vec_all(4.0F);
    vec e = y[0] + y[2], o = y[1] + y[3];
    vec f = vec_fma(four, y[2], y[0]), g = vec_fma(four, y[3], y[1]);
    t[0] = y[0];
    t[1] = e + o;
    t[2] = e - o;
    t[3] = vec_fma(two, g, f);
    t[4] = vec_fnma(two, g, f);
    t[5] = y[3];
}

// ---- where tiles lie: rows and columns outside the picture are read as zeros

struct place {
    size_t image;
    int top, left; // of the output
};

static int tiles_across(const struct winograd *w)
{
    return (w->width + TILE - 1) / TILE;
}

static int tiles_an_image(const struct winograd *w)
{
    return tiles_across(w) * ((w->height + TILE - 1) / TILE);
}

// Tiles from `first` on of the whole batch, in order of (image, row, column).
static void find_places(const struct winograd *w, size_t first, int count, struct place *places)
{
    int index = (int)(first % tiles_an_image(w)), across = tiles_across(w);
    struct place p = {first / tiles_an_image(w), index / across * TILE, index % across * TILE};
    for (int i = 0; i < count; i++) {
        places[i] = p;
        p.left += TILE;
        if (p.left >= w->width) {
            p.left = 0;
            p.top += TILE;
        }
        if (p.top >= w->height) {
            p.top = 0;
            p.image++;
        }
    }
}

struct window {              // side × side vectors of a plane [height, width, lanes]
    const float *row[PATCH]; // each row's first vector, or one of zeros
    vec_mask column[PATCH];  // unset where the whole window lies inside
};

static const _Alignas(64) float ZEROS[PATCH * LANES];

static bool lies_inside(const struct winograd *w, int top, int left, int side)
{
    return top >= 0 && left >= 0 && top + side <= w->height && left + side <= w->width;
}

INLINE void window_at(struct window *win, const struct winograd *w, const float *plane, int top,
                      int left, int side, bool inside)
{
    const float *corner = plane + ((ptrdiff_t)top * w->width + left) * LANES;
    for (int i = 0; i < side; i++, corner += w->width * LANES) {
        win->row[i] = inside || (top + i >= 0 && top + i < w->height) ? corner : ZEROS;
        if (!inside)
            win->column[i] = vec_mask_of(left + i >= 0 && left + i < w->width);
    }
}

INLINE void window_column(const struct window *win, int j, int side, bool inside, vec in[])
{
    UNROLL for (int i = 0; i < side; i++) in[i] =
        inside ? vec_load(win->row[i] + j * LANES)
               : vec_load_if(win->column[j], win->row[i] + j * LANES);
}

// ---- two-dimensional transforms; point i * 6 + j of the result goes to out + (i * 6 + j) * stride

INLINE void input_window(const struct winograd *w, const float *plane, int top, int left,
                         bool inside, float *out, int stride)
{
    vec columns[PATCH][PATCH], in[PATCH], r[PATCH];
    struct window win;
    window_at(&win, w, plane, top, left, PATCH, inside);
    UNROLL for (int j = 0; j < PATCH; j++)
    {
        window_column(&win, j, PATCH, inside, in);
        input_6(in, r);
        UNROLL for (int i = 0; i < PATCH; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < PATCH; i++)
    {
        input_6(columns[i], r);
        UNROLL for (int j = 0; j < PATCH; j++) vec_store(out + (i * PATCH + j) * stride, r[j]);
    }
}

INLINE void tile_input(const struct winograd *w, const float *plane, const struct place *at,
                       float *out, int stride)
{
    if (lies_inside(w, at->top - 1, at->left - 1, PATCH))
        input_window(w, plane, at->top - 1, at->left - 1, true, out, stride);
    else
        input_window(w, plane, at->top - 1, at->left - 1, false, out, stride);
}

INLINE void gradient_window(const struct winograd *w, const float *plane, int top, int left,
                            bool inside, float *out, int stride)
{
    vec columns[PATCH][TILE], in[TILE], r[PATCH];
    struct window win;
    window_at(&win, w, plane, top, left, TILE, inside);
    UNROLL for (int j = 0; j < TILE; j++)
    {
        window_column(&win, j, TILE, inside, in);
        gradient_6(in, r);
        UNROLL for (int i = 0; i < PATCH; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < PATCH; i++)
    {
        gradient_6(columns[i], r);
        UNROLL for (int j = 0; j < PATCH; j++) vec_store(out + (i * PATCH + j) * stride, r[j]);
    }
}

INLINE void tile_gradient(const struct winograd *w, const float *plane, const struct place *at,
                          float *out, int stride)
{
    if (lies_inside(w, at->top, at->left, TILE))
        gradient_window(w, plane, at->top, at->left, true, out, stride);
    else
        gradient_window(w, plane, at->top, at->left, false, out, stride);
}

// Plus bias, through ReLU when asked.
INLINE void tile_output(const struct winograd *w, const float *m, int stride, vec bias, bool relu,
                        float *plane, const struct place *at)
{
    vec columns[TILE][PATCH], in[PATCH], r[TILE];
    const vec least = vec_all(relu ? 0.0F : -INFINITY);
    int top = at->top, left = at->left;
    float *y = plane + ((size_t)top * w->width + left) * LANES;
    UNROLL for (int j = 0; j < PATCH; j++)
    {
        UNROLL for (int i = 0; i < PATCH; i++) in[i] = vec_load(m + (i * PATCH + j) * stride);
        output_4(in, r);
        UNROLL for (int i = 0; i < TILE; i++) columns[i][j] = r[i];
    }
    UNROLL for (int i = 0; i < TILE; i++)
    {
        if (top + i >= w->height)
            break;
        output_4(columns[i], r);
        UNROLL for (int j = 0; j < TILE; j++) if (left + j < w->width)
            vec_store(y + ((size_t)i * w->width + j) * LANES, vec_max(r[j] + bias, least));
    }
}

// ---- weights and their gradient: [point][group of out blocks][in][blocks of the group][lanes]

static int rows_in(const struct winograd *w)
{
    return round_up(w->in, CHANNELS);
}

// A line more than there are vectors, so that the 36 of a pair of channels do not fall on the same
// few sets of the cache.
static size_t point_floats(const struct winograd *w)
{
    return (size_t)rows_in(w) * blocks(w->out) * LANES + LINE;
}

static size_t winograd_weight_count(const struct winograd *w)
{
    return POINTS * point_floats(w);
}

// G g.
INLINE void weights_6(const vec g[TAPS], vec u[PATCH])
{
    const vec sixth = vec_all(1.0F / 6), twelfth = vec_all(1.0F / 12), quarter = vec_all(0.25F);
    vec outer = (g[0] + g[2]) * sixth, inner = g[1] * sixth;
    vec wide = vec_fma(g[2], sixth, g[0] * (quarter * sixth)), middle = g[1] * twelfth;
    u[0] = g[0] * quarter;
    u[1] = vec_zero() - (outer + inner);
    u[2] = inner - outer;
    u[3] = wide + middle;
    u[4] = wide - middle;
    u[5] = g[2];
}

// Gᵀ u.
INLINE void weights_3(const vec u[PATCH], vec g[TAPS])
{
    const vec sixth = vec_all(1.0F / 6), twelfth = vec_all(1.0F / 12), quarter = vec_all(0.25F);
    vec near = (u[1] + u[2]) * sixth, far = u[3] + u[4];
    g[0] = vec_fma(quarter, u[0], vec_fma(quarter * sixth, far, vec_zero() - near));
    g[1] = vec_fma(sixth, u[2] - u[1], (u[3] - u[4]) * twelfth);
    g[2] = vec_fma(sixth, far, u[5] - near);
}

// Whether they do not fit in the second cache.
static bool weights_are_far(const struct winograd *w)
{
    return winograd_weight_count(w) * sizeof(float) > SECOND_CACHE_BYTES;
}

// The 36 vectors, `point` floats apart, of an input channel and a block of output from `out` on.
INLINE void transform_block(const struct winograd *w, const float *weights, bool turned, int in,
                            int out, float *to, size_t point)
{
    _Alignas(64) float taps[TAPS * TAPS][LANES] = {{0}};
    vec columns[PATCH][TAPS], column[TAPS], r[PATCH];
    for (int o = 0; o < LANES && out + o < w->out; o++) {
        size_t pair = turned ? (size_t)in * w->out + out + o : (size_t)(out + o) * w->in + in;
        for (int k = 0; k < TAPS * TAPS; k++)
            taps[turned ? TAPS * TAPS - 1 - k : k][o] = weights[pair * TAPS * TAPS + k];
    }
    UNROLL for (int k = 0; k < TAPS; k++)
    {
        UNROLL for (int l = 0; l < TAPS; l++) column[l] = vec_load(taps[l * TAPS + k]);
        weights_6(column, r);
        UNROLL for (int p = 0; p < PATCH; p++) columns[p][k] = r[p];
    }
    UNROLL for (int p = 0; p < PATCH; p++)
    {
        weights_6(columns[p], r);
        UNROLL for (int q = 0; q < PATCH; q++) vec_store(to + (p * PATCH + q) * point, r[q]);
    }
}

// A few input channels at a time. Weights that are far are gathered to whole lines first, and go to
// memory without being read from there.
static void winograd_transform_weights(const struct winograd *w, const float *weights, bool turned,
                                       float *transformed)
{
    _Alignas(64) float staged[POINTS * STAGED_POINT];
    bool far = weights_are_far(w);
    size_t point = point_floats(w), step = far ? STAGED_POINT : point;
    for (int first = 0, group; first < blocks(w->out); first += group) {
        float *to = transformed + (size_t)first * rows_in(w) * LANES;
        group = group_blocks(blocks(w->out) - first);
        for (int i = 0, vectors; i < w->in; i += CHANNELS, to += vectors * LANES) {
            vectors = minimum(CHANNELS, w->in - i) * group;
            for (int v = 0; v < vectors; v++)
                transform_block(w, weights, turned, i + v / group, (first + v % group) * LANES,
                                (far ? staged : to) + v * LANES, step);
            for (int p = 0; far && p < POINTS; p++)
                for (int v = 0; v < vectors * LANES; v += LANES)
                    vec_stream(to + p * point + v, vec_load(staged + p * STAGED_POINT + v));
        }
    }
    _mm_sfence();
}

INLINE void turn_back_block(const struct winograd *w, const float *from, int in, int out,
                            float *gradient)
{
    _Alignas(64) float taps[TAPS * TAPS][LANES];
    vec columns[TAPS][PATCH], column[PATCH], r[TAPS];
    UNROLL for (int q = 0; q < PATCH; q++)
    {
        UNROLL for (int p = 0; p < PATCH; p++) column[p] =
            vec_load(from + (p * PATCH + q) * point_floats(w));
        weights_3(column, r);
        UNROLL for (int k = 0; k < TAPS; k++) columns[k][q] = r[k];
    }
    UNROLL for (int k = 0; k < TAPS; k++)
    {
        weights_3(columns[k], r);
        UNROLL for (int l = 0; l < TAPS; l++) vec_store(taps[k * TAPS + l], r[l]);
    }
    for (int o = 0; o < LANES && out + o < w->out; o++)
        for (int k = 0; k < TAPS * TAPS; k++)
            gradient[((size_t)(out + o) * w->in + in) * TAPS * TAPS + k] = taps[k][o];
}

// gradient [out, in, 3, 3] = from the sums of all points.
static void turn_back(const struct winograd *w, const float *sums, float *gradient)
{
    int all = blocks(w->out);
    for (int first = 0, group; first < all; first += group) {
        const float *from = sums + (size_t)first * rows_in(w) * LANES;
        group = group_blocks(all - first);
        for (int i = 0; i < w->in; i++)
            for (int b = first; b < first + group; b++, from += LANES)
                turn_back_block(w, from, i, b * LANES, gradient);
    }
}

// ---- forward

// Tiles whose sums with so many blocks of output are in registers together.
INLINE int rows_of(int out_blocks)
{
    return REGISTERS == 32 || out_blocks == 1 ? 8 : out_blocks == 2 ? 6 : 4;
}

// m[block][tile] = sum over channels of v[tile][channel] u[channel][block], of one point.
INLINE void products(const float *v, const float *u, int channels, int out_blocks, float *m)
{
    const int rows = rows_of(out_blocks);
    vec sum[GROUP_BLOCKS][8];
    UNROLL for (int b = 0; b < out_blocks; b++) UNROLL for (int t = 0; t < rows; t++) sum[b][t] =
        vec_zero();
    for (; channels > 0; channels -= LANES, v += FORWARD_BLOCK)
        for (int c = 0; c < LANES && c < channels; c++, u += out_blocks * LANES) {
            vec weight[GROUP_BLOCKS];
            UNROLL for (int b = 0; b < out_blocks; b++) weight[b] = vec_load(u + b * LANES);
            UNROLL for (int t = 0; t < rows; t++)
            {
                vec value = vec_all(v[t * LANES + c]);
                UNROLL for (int b = 0; b < out_blocks; b++) sum[b][t] =
                    vec_fma(value, weight[b], sum[b][t]);
            }
        }
    UNROLL for (int b = 0; b < out_blocks; b++) UNROLL for (int t = 0; t < rows; t++)
        vec_store(m + b * FORWARD_BLOCK + t * LANES, sum[b][t]);
}

// One group of output blocks, of one point. Weights that do not fit in the second cache come from
// far away, so the next group's are asked for in the meantime.
INLINE void products_group(const struct winograd *w, const float *v, const float *u, int tiles,
                           int out_blocks, float *m)
{
    size_t floats = (size_t)w->in * out_blocks * LANES, asked = 0;
    bool far = weights_are_far(w);
    for (int t = 0; t < tiles; t += rows_of(out_blocks)) {
        size_t until = far ? floats * (t + rows_of(out_blocks)) / tiles : 0;
        for (; asked < until; asked += LINE)
            __builtin_prefetch(u + floats + asked, 0, 2);
        products(v + t * LANES, u, w->in, out_blocks, m + t * LANES);
    }
}

static void products_all(const struct winograd *w, const float *v, const float *transformed,
                         int tiles, float *m)
{
    int out_blocks = blocks(w->out);
    for (int p = 0; p < POINTS; p++, v += FORWARD_POINT, m += FORWARD_POINT)
        for (int b = 0, group; b < out_blocks; b += group) {
            const float *u = transformed + p * point_floats(w) + (size_t)b * rows_in(w) * LANES;
            group = group_blocks(out_blocks - b);
            if (group == 1)
                products_group(w, v, u, tiles, 1, m + b * FORWARD_BLOCK);
            else if (group == 2)
                products_group(w, v, u, tiles, 2, m + b * FORWARD_BLOCK);
            else
                products_group(w, v, u, tiles, 3, m + b * FORWARD_BLOCK);
        }
}

struct pass {
    const struct winograd *w;
    const float *x, *transformed, *bias, *dy;
    float *y, *scratch;
    size_t part_floats; // of scratch
    bool relu;
};

static size_t forward_floats(const struct winograd *w)
{
    return (size_t)FORWARD_BLOCK * (blocks(w->in) + blocks(w->out));
}

// Tiles to take at a time when there are `count`: equal shares, in whole rows of products.
static size_t share_of(size_t count, int most, int rows)
{
    size_t shares = (count + most - 1) / most;
    return (count + shares * rows - 1) / (shares * rows) * rows;
}

// Tiles [begin, end) of the whole batch, in order of (image, row, column). Products of the last row
// run over what tiles there were before, and nobody reads them.
static void forward_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    const struct winograd *w = a->w;
    int in_blocks = blocks(w->in), out_blocks = blocks(w->out);
    int rows = rows_of(group_blocks(out_blocks));
    size_t plane = (size_t)w->height * w->width * LANES;
    size_t share = share_of(end - begin, FORWARD_TILES / rows * rows, rows);
    float *v = a->scratch + part * a->part_floats, *m = v + (size_t)FORWARD_BLOCK * in_blocks;
    struct place places[FORWARD_TILES];
    for (size_t first = begin; first < end; first += share) {
        int tiles = (int)(first + share < end ? share : end - first);
        find_places(w, first, tiles, places);
        for (int b = 0; b < in_blocks; b++)
            for (int i = 0; i < tiles; i++)
                tile_input(w, a->x + (places[i].image * in_blocks + b) * plane, &places[i],
                           v + b * FORWARD_BLOCK + i * LANES, FORWARD_POINT);
        products_all(w, v, a->transformed, tiles, m);
        for (int b = 0; b < out_blocks; b++) {
            vec bias = a->bias ? vec_load(a->bias + b * LANES) : vec_zero();
            for (int i = 0; i < tiles; i++)
                tile_output(w, m + b * FORWARD_BLOCK + i * LANES, FORWARD_POINT, bias, a->relu,
                            a->y + (places[i].image * out_blocks + b) * plane, &places[i]);
        }
    }
}

static void winograd_forward(const struct winograd *w, int threads, int count, const float *x,
                             const float *transformed, const float *bias, bool relu, float *y,
                             void *scratch)
{
    struct pass pass = {.w = w,
                        .x = x,
                        .transformed = transformed,
                        .bias = bias,
                        .relu = relu,
                        .y = y,
                        .scratch = scratch,
                        .part_floats = forward_floats(w)};
    host_parallel(threads, (size_t)count * tiles_an_image(w), rows_of(group_blocks(blocks(w->out))),
                  forward_part, &pass);
}

// ---- the weights' gradient

// Input channels whose sums with so many blocks of output are in registers together, at the most.
INLINE int channels_of(int out_blocks)
{
    return REGISTERS == 32 ? (out_blocks == 3 ? 8 : 12) : out_blocks == 1 ? 8 : CHANNELS;
}

// sums[channel][block] += over tiles of v[tile][channel] d[tile][block], `channels` of them, one
// point.
INLINE void outer(const float *v, const float *d, int tiles, int channels, int out_blocks,
                  float *sums)
{
    vec sum[12][GROUP_BLOCKS];
    UNROLL for (int c = 0; c < channels; c++) UNROLL for (int b = 0; b < out_blocks; b++)
        sum[c][b] = vec_load(sums + (c * out_blocks + b) * LANES);
    for (int t = 0; t < tiles; t++) {
        vec gradient[GROUP_BLOCKS];
        UNROLL for (int b = 0; b < out_blocks; b++) gradient[b] =
            vec_load(d + b * GRADIENT_BLOCK + t * LANES);
        UNROLL for (int c = 0; c < channels; c++)
        {
            vec value = vec_all(v[t * LANES + c]);
            UNROLL for (int b = 0; b < out_blocks; b++) sum[c][b] =
                vec_fma(value, gradient[b], sum[c][b]);
        }
    }
    UNROLL for (int c = 0; c < channels; c++) UNROLL for (int b = 0; b < out_blocks; b++)
        vec_store(sums + (c * out_blocks + b) * LANES, sum[c][b]);
}

// All channels of one point and group of output blocks. Channels worked on together do not straddle
// blocks: 12 + 4 of 16, as far as there are.
INLINE void outer_group(const float *v, const float *d, int tiles, int channels, int out_blocks,
                        float *sums)
{
    for (int c = 0; c < channels;) {
        const float *vc = v + c / LANES * GRADIENT_BLOCK + c % LANES;
        float *sc = sums + c * out_blocks * LANES;
        if (c + channels_of(out_blocks) <= channels &&
            c % LANES + channels_of(out_blocks) <= LANES) {
            outer(vc, d, tiles, channels_of(out_blocks), out_blocks, sc);
            c += channels_of(out_blocks);
        } else {
            outer(vc, d, tiles, CHANNELS, out_blocks, sc);
            c += CHANNELS;
        }
    }
}

static void outer_all(const struct winograd *w, const float *v, const float *d, int tiles,
                      float *all)
{
    int out_blocks = blocks(w->out), channels = rows_in(w);
    for (int p = 0; p < POINTS; p++, v += GRADIENT_POINT, d += GRADIENT_POINT)
        for (int b = 0, group; b < out_blocks; b += group) {
            float *sums = all + p * point_floats(w) + (size_t)b * channels * LANES;
            group = group_blocks(out_blocks - b);
            if (group == 1)
                outer_group(v, d + b * GRADIENT_BLOCK, tiles, channels, 1, sums);
            else if (group == 2)
                outer_group(v, d + b * GRADIENT_BLOCK, tiles, channels, 2, sums);
            else
                outer_group(v, d + b * GRADIENT_BLOCK, tiles, channels, 3, sums);
        }
}

static size_t gradient_floats(const struct winograd *w)
{
    return winograd_weight_count(w) + (size_t)GRADIENT_BLOCK * (blocks(w->in) + blocks(w->out));
}

static size_t winograd_scratch_bytes(const struct winograd *w, int threads, bool for_weights)
{
    return (for_weights ? gradient_floats(w) : forward_floats(w)) * threads * sizeof(float);
}

static void gradient_part(void *context, int part, size_t begin, size_t end)
{
    const struct pass *a = context;
    const struct winograd *w = a->w;
    int in_blocks = blocks(w->in), out_blocks = blocks(w->out);
    size_t plane = (size_t)w->height * w->width * LANES;
    size_t share = share_of(end - begin, GRADIENT_TILES, 1);
    float *sums = a->scratch + part * a->part_floats, *v = sums + winograd_weight_count(w);
    float *d = v + (size_t)GRADIENT_BLOCK * in_blocks;
    struct place places[GRADIENT_TILES];
    for (size_t first = begin; first < end; first += share) {
        int tiles = (int)(first + share < end ? share : end - first);
        find_places(w, first, tiles, places);
        for (int b = 0; b < in_blocks; b++)
            for (int i = 0; i < tiles; i++)
                tile_input(w, a->x + (places[i].image * in_blocks + b) * plane, &places[i],
                           v + b * GRADIENT_BLOCK + i * LANES, GRADIENT_POINT);
        for (int b = 0; b < out_blocks; b++)
            for (int i = 0; i < tiles; i++)
                tile_gradient(w, a->dy + (places[i].image * out_blocks + b) * plane, &places[i],
                              d + b * GRADIENT_BLOCK + i * LANES, GRADIENT_POINT);
        outer_all(w, v, d, tiles, sums);
    }
}

static void winograd_backward_weights(const struct winograd *w, int threads, int count,
                                      const float *x, const float *dy, float *gradient,
                                      void *scratch)
{
    struct pass pass = {
        .w = w, .x = x, .dy = dy, .scratch = scratch, .part_floats = gradient_floats(w)};
    for (int part = 0; part < threads; part++)
        memset(pass.scratch + part * pass.part_floats, 0, winograd_weight_count(w) * sizeof(float));
    host_parallel(threads, (size_t)count * tiles_an_image(w), 1, gradient_part, &pass);
    for (int part = 1; part < threads; part++) // in order, so that the bits are the same each time
        for (size_t i = 0; i < winograd_weight_count(w); i++)
            pass.scratch[i] += pass.scratch[part * pass.part_floats + i];
    turn_back(w, pass.scratch, gradient);
}

const struct winograd_kernels FOR_THIS_SET(WINOGRAD) = {
    .weight_count = winograd_weight_count,
    .transform_weights = winograd_transform_weights,
    .scratch_bytes = winograd_scratch_bytes,
    .forward = winograd_forward,
    .backward_weights = winograd_backward_weights,
};
