#include "models/cpu/norm_kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "models/cpu/element.h"
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
typedef uint32_t vector_bits __attribute__((vector_size(WIDTH * sizeof(float))));
typedef uint16_t vector_narrow __attribute__((vector_size(WIDTH * sizeof(uint16_t)))); // bf16

struct pass {
    const struct norm_work *w;
    const void *dy;
    void *out;
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

// The same of activations, which start at element `at`. Rounding is base/arith/bfloat16.h's.
INLINE elements_load(vector *v, const void *from, size_t at, int floats, bool narrow)
{
    vector_narrow upper = {0};
    if (!narrow) {
        vector_load(v, (const float *)from + at, floats);
        return;
    }
    memcpy(&upper, (const uint16_t *)from + at, (size_t)floats * sizeof(uint16_t));
    *v = (vector)(__builtin_convertvector(upper, vector_bits) << 16);
}

INLINE elements_store(void *to, size_t at, const vector *v, int floats, bool narrow)
{
    if (!narrow) {
        vector_store((float *)to + at, v, floats);
        return;
    }
    vector_bits bits = (vector_bits)*v, is_nan = (vector_bits)(*v != *v);
    vector_bits rounded = bits + 0x7fffU + (bits >> 16 & 1U), quiet = bits | 0x400000U;
    vector_narrow upper =
        __builtin_convertvector(((quiet & is_nan) | (rounded & ~is_nan)) >> 16, vector_narrow);
    memcpy((uint16_t *)to + at, &upper, (size_t)floats * sizeof(uint16_t));
}

INLINE vectors_load(vector v[VECTORS], const float *from, int vectors, int floats)
{
    UNROLL for (int i = 0; i < vectors; i++) vector_load(&v[i], from + i * WIDTH, floats);
}

// ---- kernels of a tile: so many vectors a pixel, `floats` channels in each

// Squares of distances from a pixel of the strip: those are no larger than what they are summed
// for, wherever the mean lies, so that f32 will do.
INLINE moments_tile(const struct pass *a, const struct tile *t, int vectors, int floats,
                    bool narrow)
{
    vector pivot[VECTORS], sum[VECTORS] = {{0.0F}}, square[VECTORS] = {{0.0F}};
    size_t at = t->first;
    UNROLL for (int i = 0; i < vectors; i++)
        elements_load(&pivot[i], a->w->x, at + i * WIDTH, floats, narrow);
    for (size_t p = 0; p < t->pixels; p++, at += a->w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector d;
            elements_load(&d, a->w->x, at + i * WIDTH, floats, narrow);
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
INLINE apply_tile(const struct pass *a, const struct tile *t, int vectors, int floats, bool narrow)
{
    const struct norm_work *w = a->w;
    const float floor = w->relu ? 0.0F : -INFINITY;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS];
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    size_t at = t->first;
    for (size_t p = 0; p < t->pixels; p++, at += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector v;
            elements_load(&v, w->x, at + i * WIDTH, floats, narrow);
            v = factor[i] * (v - mean[i]) + shift[i];
            v = (vector)((vector_mask)v & ~(v < floor));
            elements_store(a->out, at + i * WIDTH, &v, floats, narrow);
        }
}

// *distance = x - mean; *dz = dy where the ReLU let through.
INLINE let_through(vector *dz, vector *distance, const vector *mean, const vector *factor,
                   const vector *shift, float floor)
{
    *distance -= *mean;
    *dz = (vector)((vector_mask)*dz & (*factor * *distance + *shift > floor));
}

INLINE gradient_sums_tile(const struct pass *a, const struct tile *t, int vectors, int floats,
                          bool narrow)
{
    const struct norm_work *w = a->w;
    const float floor = w->relu ? 0.0F : -INFINITY;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS];
    vector sum[VECTORS] = {{0.0F}}, product[VECTORS] = {{0.0F}};
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    size_t at = t->first;
    for (size_t p = 0; p < t->pixels; p++, at += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector distance, dz;
            elements_load(&distance, w->x, at + i * WIDTH, floats, narrow);
            elements_load(&dz, a->dy, at + i * WIDTH, floats, narrow);
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

INLINE gradient_tile(const struct pass *a, const struct tile *t, int vectors, int floats,
                     bool narrow)
{
    const struct norm_work *w = a->w;
    const float floor = w->relu ? 0.0F : -INFINITY;
    vector mean[VECTORS], factor[VECTORS], shift[VECTORS], base[VECTORS], slope[VECTORS];
    vectors_load(mean, w->mean + t->channel, vectors, floats);
    vectors_load(factor, w->factor + t->channel, vectors, floats);
    vectors_load(shift, w->shift + t->channel, vectors, floats);
    vectors_load(base, w->base + t->channel, vectors, floats);
    vectors_load(slope, w->slope + t->channel, vectors, floats);
    size_t at = t->first;
    for (size_t p = 0; p < t->pixels; p++, at += w->lanes)
        UNROLL for (int i = 0; i < vectors; i++)
        {
            vector distance, dz;
            elements_load(&distance, w->x, at + i * WIDTH, floats, narrow);
            elements_load(&dz, a->dy, at + i * WIDTH, floats, narrow);
            let_through(&dz, &distance, &mean[i], &factor[i], &shift[i], floor);
            dz = factor[i] * (dz - base[i] - slope[i] * distance);
            elements_store(a->out, at + i * WIDTH, &dz, floats, narrow);
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
                    if (w->narrow) /* channels are whole blocks of 16 */                           \
                        name##_tile(a, &t, 2, WIDTH, true);                                        \
                    else if (width == 2 * WIDTH)                                                   \
                        name##_tile(a, &t, 2, WIDTH, false);                                       \
                    else if (width == WIDTH)                                                       \
                        name##_tile(a, &t, 1, WIDTH, false);                                       \
                    else                                                                           \
                        name##_tile(a, &t, 1, 1, false);                                           \
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

void norm_apply(const struct norm_work *w, void *y)
{
    over_planes(&(struct pass){.w = w, .out = y}, apply_part);
}

void norm_gradient_sums(const struct norm_work *w, const void *dy, int channels, double *first,
                        double *second)
{
    memset(w->partials, 0, norm_partials(w) * sizeof(double));
    over_planes(&(struct pass){.w = w, .dy = dy}, gradient_sums_part);
    add_planes(w, channels, first, second);
}

void norm_gradient(const struct norm_work *w, const void *dy, void *dx)
{
    over_planes(&(struct pass){.w = w, .dy = dy, .out = dx}, gradient_part);
}
