#include "models/cpu/norm_kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "models/host/clones.h"
#include "models/host/host.h"

#define UNROLL _Pragma("GCC unroll 4")
#define INLINE static inline __attribute__((always_inline)) void

enum {
    WIDTH = 8,   // floats of a vector
    VECTORS = 2, // of a pixel that are worked on together, at the most
    // Pixels whose channels are all gone through before the next pixels are, so that they stay in a
    // cache; and that are summed in f32 before the sums become double.
    STRIP = 64,
};
typedef float vector __attribute__((vector_size(WIDTH * sizeof(float))));
typedef int32_t vector_mask __attribute__((vector_size(WIDTH * sizeof(float))));

struct pass {
    const struct norm_work *w;
    const float *dy;
    float *out;
};

// Some channels of a strip of pixels.
struct tile {
    size_t first, pixels; // where the first pixel's lie
    int channel;          // of all channels
    double *sums;         // two rows of [lanes]
};

// ---- vectors; `floats` of each are there, a constant where these are inlined

INLINE vector_load(vector *v, const float *from, int floats)
{
    *v = (vector){0.0F};
    memcpy(v, from, (size_t)floats * sizeof(float));
}

INLINE vector_store(float *to, const vector *v, int floats)
{
    memcpy(to, v, (size_t)floats * sizeof(float));
}

INLINE vectors_load(vector v[VECTORS], const float *from, int vectors, int floats)
{
    UNROLL for (int i = 0; i < vectors; i++) vector_load(&v[i], from + i * WIDTH, floats);
}

// ---- kernels of a tile: so many vectors a pixel, `floats` channels in each

// Squares of distances from a pixel of the strip: those are no larger than what they are summed
// for, wherever the mean lies, so that f32 will do.
INLINE moments_tile(const struct pass *a, const struct tile *t, int vectors, int floats)
{
    const float *x = a->w->x + t->first;
    vector pivot[VECTORS], sum[VECTORS] = {{0.0F}}, square[VECTORS] = {{0.0F}};
    vectors_load(pivot, x, vectors, floats);
    for (size_t p = 0; p < t->pixels; p++, x += a->w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector d;
            vector_load(&d, x + i * WIDTH, floats);
            d -= pivot[i];
            sum[i] += d;
            square[i] += d * d;
        }
    double *sums = t->sums, *squares = t->sums + a->w->lanes, count = (double)t->pixels;
    UNROLL for (int i = 0; i < vectors; i++) for (int c = 0; c < floats; c++)
    {
        double from = (double)pivot[i][c], all = from * count;
        sums[i * WIDTH + c] += (double)sum[i][c] + all;
        squares[i * WIDTH + c] += (double)square[i][c] + from * (2.0 * (double)sum[i][c] + all);
    }
}

// NaN stays NaN through ReLU: divergence must not hide.
INLINE apply_tile(const struct pass *a, const struct tile *t, int vectors, int floats)
{
    const struct norm_work *w = a->w;
    const float *x = w->x + t->first, floor = w->relu ? 0.0F : -INFINITY;
    float *y = a->out + t->first;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS];
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    for (size_t p = 0; p < t->pixels; p++, x += w->lanes, y += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector v;
            vector_load(&v, x + i * WIDTH, floats);
            v = factor[i] * (v - mean[i]) + shift[i];
            v = (vector)((vector_mask)v & ~(v < floor));
            vector_store(y + i * WIDTH, &v, floats);
        }
}

// *distance = x - mean; *dz = dy where the ReLU let through.
INLINE let_through(vector *dz, vector *distance, const vector *mean, const vector *factor,
                   const vector *shift, float floor)
{
    *distance -= *mean;
    *dz = (vector)((vector_mask)*dz & (*factor * *distance + *shift > floor));
}

INLINE gradient_sums_tile(const struct pass *a, const struct tile *t, int vectors, int floats)
{
    const struct norm_work *w = a->w;
    const float *x = w->x + t->first, *dy = a->dy + t->first;
    const float floor = w->relu ? 0.0F : -INFINITY;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS];
    vector sum[VECTORS] = {{0.0F}}, product[VECTORS] = {{0.0F}};
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    for (size_t p = 0; p < t->pixels; p++, x += w->lanes, dy += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector distance, dz;
            vector_load(&distance, x + i * WIDTH, floats);
            vector_load(&dz, dy + i * WIDTH, floats);
            let_through(&dz, &distance, &mean[i], &factor[i], &shift[i], floor);
            sum[i] += dz;
            product[i] += dz * distance;
        }
    UNROLL for (int i = 0; i < vectors; i++) for (int c = 0; c < floats; c++)
    {
        t->sums[i * WIDTH + c] += (double)sum[i][c];
        t->sums[w->lanes + i * WIDTH + c] += (double)product[i][c];
    }
}

INLINE gradient_tile(const struct pass *a, const struct tile *t, int vectors, int floats)
{
    const struct norm_work *w = a->w;
    const float *x = w->x + t->first, *dy = a->dy + t->first;
    const float floor = w->relu ? 0.0F : -INFINITY;
    float *dx = a->out + t->first;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS], base[VECTORS], slope[VECTORS];
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    vectors_load(base, w->base + t->channel, vectors, floats);
    vectors_load(slope, w->slope + t->channel, vectors, floats);
    for (size_t p = 0; p < t->pixels; p++, x += w->lanes, dy += w->lanes, dx += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector distance, dz;
            vector_load(&distance, x + i * WIDTH, floats);
            vector_load(&dz, dy + i * WIDTH, floats);
            let_through(&dz, &distance, &mean[i], &factor[i], &shift[i], floor);
            dz = factor[i] * (dz - base[i] - slope[i] * distance);
            vector_store(dx + i * WIDTH, &dz, floats);
        }
}

// ---- all tiles of planes [begin, end), plane by plane, strip by strip

static int tile_width(const struct norm_work *w)
{
    return w->lanes % (VECTORS * WIDTH) == 0 ? VECTORS * WIDTH : w->lanes % WIDTH == 0 ? WIDTH : 1;
}

static struct tile tile_at(const struct norm_work *w, size_t plane, size_t pixel, int lane)
{
    size_t left = w->pixels - pixel;
    return (struct tile){.first = (plane * w->pixels + pixel) * w->lanes + lane,
                         .pixels = left < STRIP ? left : STRIP,
                         .channel = (int)(plane % w->planes) * w->lanes + lane,
                         .sums = w->partials + 2 * plane * w->lanes + lane};
}

#define OVER_PLANES(name)                                                                          \
    HOST_CLONES static void name##_planes(const struct pass *a, size_t begin, size_t end)          \
    {                                                                                              \
        const struct norm_work *w = a->w;                                                          \
        int width = tile_width(w);                                                                 \
        for (size_t plane = begin; plane < end; plane++)                                           \
            for (size_t pixel = 0; pixel < w->pixels; pixel += STRIP)                              \
                for (int lane = 0; lane < w->lanes; lane += width) {                               \
                    struct tile t = tile_at(w, plane, pixel, lane);                                \
                    if (width == 2 * WIDTH)                                                        \
                        name##_tile(a, &t, 2, WIDTH);                                              \
                    else if (width == WIDTH)                                                       \
                        name##_tile(a, &t, 1, WIDTH);                                              \
                    else                                                                           \
                        name##_tile(a, &t, 1, 1);                                                  \
                }                                                                                  \
    }                                                                                              \
    static void name##_part(void *context, int part, size_t begin, size_t end)                     \
    {                                                                                              \
        (void)part;                                                                                \
        name##_planes(context, begin, end);                                                        \
    }
OVER_PLANES(moments)
OVER_PLANES(apply)
OVER_PLANES(gradient_sums)
OVER_PLANES(gradient)

static void over_planes(struct pass *pass,
                        void (*part)(void *context, int part, size_t begin, size_t end))
{
    const struct norm_work *w = pass->w;
    host_parallel(w->threads, (size_t)w->count * w->planes, 1, part, pass);
}

// ---- the calls

size_t norm_partials(const struct norm_work *w)
{
    return 2 * (size_t)w->count * w->planes * w->lanes;
}

// first[c], second[c] = the planes' two sums, added over samples in order.
static void add_planes(const struct norm_work *w, int channels, double *first, double *second)
{
    const double *sums = w->partials;
    memset(first, 0, (size_t)channels * sizeof(*first));
    memset(second, 0, (size_t)channels * sizeof(*second));
    for (size_t plane = 0; plane < (size_t)w->count * w->planes; plane++, sums += 2 * w->lanes) {
        int channel = (int)(plane % w->planes) * w->lanes;
        for (int c = 0; c < w->lanes && channel + c < channels; c++) {
            first[channel + c] += sums[c];
            second[channel + c] += sums[w->lanes + c];
        }
    }
}

void norm_moments(const struct norm_work *w, int channels, double *first, double *second)
{
    memset(w->partials, 0, norm_partials(w) * sizeof(double));
    over_planes(&(struct pass){.w = w}, moments_part);
    add_planes(w, channels, first, second);
}

void norm_apply(const struct norm_work *w, float *y)
{
    over_planes(&(struct pass){.w = w, .out = y}, apply_part);
}

void norm_gradient_sums(const struct norm_work *w, const float *dy, int channels, double *first,
                        double *second)
{
    memset(w->partials, 0, norm_partials(w) * sizeof(double));
    over_planes(&(struct pass){.w = w, .dy = dy}, gradient_sums_part);
    add_planes(w, channels, first, second);
}

void norm_gradient(const struct norm_work *w, const float *dy, float *dx)
{
    over_planes(&(struct pass){.w = w, .dy = dy, .out = dx}, gradient_part);
}
