// Synchronised BatchNorm, with ReLU where the graph has one after it: in training by kernels of our
// own, since oneDNN's take their statistics themselves; in evaluation as any BatchNorm.
//
// Forward sums x and x² once, in double, so that one pass over the data and one sum over ranks do.
// Of f32 values that is sound: squares are exact in double, and what is lost where the mean is m
// deviations from 0 is m² × 1e-16 of the variance, less than f32 itself loses up to m = 1e4.
// Sums are taken plane by plane, and planes are added in order: threads change no bit.

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "models/cpu/network.h"
#include "models/host/clones.h"

static const double EPSILON = 1e-5;
enum { LANES_MOST = 16 };

// Planes are [pixels, lanes], `planes` of them a sample.
struct plane_work {
    const struct layer *l;
    int count, planes, lanes;
    size_t pixels;
    double *sums; // [count, planes, 2, lanes]: two sums of each plane
};

static struct plane_work plane_work(struct cpu_network *n, const struct layer *l)
{
    int lanes = shape_lanes(n, &l->out);
    return (struct plane_work){.l = l,
                               .count = n->host.count,
                               .planes = l->out.padded / lanes,
                               .lanes = lanes,
                               .pixels = (size_t)l->out.height * l->out.width,
                               .sums = n->first->scratchpad.data};
}

// ---- kernels of one plane; `lanes` is a constant where they are inlined

#define PLANE static inline __attribute__((always_inline)) void
#define BY_LANES(kernel, work, plane)                                                              \
    switch ((work)->lanes) {                                                                       \
    case 16:                                                                                       \
        kernel(work, plane, 16);                                                                   \
        break;                                                                                     \
    case 8:                                                                                        \
        kernel(work, plane, 8);                                                                    \
        break;                                                                                     \
    default:                                                                                       \
        kernel(work, plane, 1);                                                                    \
    }

PLANE plane_moments(const struct plane_work *w, size_t plane, int lanes)
{
    const float *x = w->l->x + plane * w->pixels * lanes;
    double sum[LANES_MOST] = {0.0}, squares[LANES_MOST] = {0.0};
    for (size_t p = 0; p < w->pixels; p++)
        for (int c = 0; c < lanes; c++) {
            double v = (double)x[p * lanes + c];
            sum[c] += v;
            squares[c] += v * v;
        }
    memcpy(w->sums + 2 * plane * lanes, sum, (size_t)lanes * sizeof(*sum));
    memcpy(w->sums + (2 * plane + 1) * lanes, squares, (size_t)lanes * sizeof(*sum));
}

// y = factor (x - mean) + shift; NaN stays NaN through ReLU: divergence must not hide.
PLANE plane_apply(const struct plane_work *w, size_t plane, int lanes)
{
    const struct norm_state *s = &w->l->norm;
    size_t channel = plane % w->planes * lanes;
    const float *x = w->l->x + plane * w->pixels * lanes;
    const float *factor = s->factor + channel, *mean = s->mean + channel;
    const float *shift = s->shift + channel;
    float *y = w->l->y + plane * w->pixels * lanes;
    float floor = w->l->relu ? 0.0F : -INFINITY;
    for (size_t p = 0; p < w->pixels; p++)
        for (int c = 0; c < lanes; c++) {
            float v = factor[c] * (x[p * lanes + c] - mean[c]) + shift[c];
            y[p * lanes + c] = v < floor ? floor : v;
        }
}

// d = dy where y > floor, else 0: by masks, in an array of its own, so that the loop becomes
// vectors though what is written later may be dy itself.
PLANE let_through(float *d, const float *dy, const float *y, float floor, int lanes)
{
    uint32_t bits[LANES_MOST];
    memcpy(bits, dy, (size_t)lanes * sizeof(*bits));
    for (int c = 0; c < lanes; c++)
        bits[c] &= -(uint32_t)(y[c] > floor);
    memcpy(d, bits, (size_t)lanes * sizeof(*bits));
}

// Sums of dy and of dy (x - mean); the ReLU has let dy through where y > 0.
PLANE plane_backward_sums(const struct plane_work *w, size_t plane, int lanes)
{
    const struct norm_state *s = &w->l->norm;
    size_t first = plane * w->pixels * lanes;
    const float *x = w->l->x + first, *y = w->l->y + first, *dy = w->l->dy + first;
    const float *mean = s->mean + plane % w->planes * lanes;
    float floor = w->l->relu ? 0.0F : -INFINITY, d[LANES_MOST];
    double sum[LANES_MOST] = {0.0}, product[LANES_MOST] = {0.0};
    for (size_t p = 0; p < w->pixels; p++) {
        let_through(d, dy + p * lanes, y + p * lanes, floor, lanes);
        for (int c = 0; c < lanes; c++) {
            sum[c] += (double)d[c];
            product[c] += (double)d[c] * (double)(x[p * lanes + c] - mean[c]);
        }
    }
    memcpy(w->sums + 2 * plane * lanes, sum, (size_t)lanes * sizeof(*sum));
    memcpy(w->sums + (2 * plane + 1) * lanes, product, (size_t)lanes * sizeof(*sum));
}

// dx = factor (dy - base - slope (x - mean)); dx may be dy.
PLANE plane_backward(const struct plane_work *w, size_t plane, int lanes)
{
    const struct norm_state *s = &w->l->norm;
    size_t first = plane * w->pixels * lanes, channel = plane % w->planes * lanes;
    const float *x = w->l->x + first, *y = w->l->y + first, *dy = w->l->dy + first;
    const float *factor = s->factor + channel, *mean = s->mean + channel;
    const float *base = s->base + channel, *slope = s->slope + channel;
    float *dx = w->l->dx + first, floor = w->l->relu ? 0.0F : -INFINITY, d[LANES_MOST];
    for (size_t p = 0; p < w->pixels; p++) {
        let_through(d, dy + p * lanes, y + p * lanes, floor, lanes);
        for (int c = 0; c < lanes; c++)
            d[c] = factor[c] * (d[c] - base[c] - slope[c] * (x[p * lanes + c] - mean[c]));
        memcpy(dx + p * lanes, d, (size_t)lanes * sizeof(*d));
    }
}

#define PLANE_RANGE(name, kernel)                                                                  \
    HOST_CLONES static void name##_range(const struct plane_work *w, size_t begin, size_t end)     \
    {                                                                                              \
        for (size_t plane = begin; plane < end; plane++)                                           \
            BY_LANES(kernel, w, plane)                                                             \
    }                                                                                              \
    static void name(void *context, int part, size_t begin, size_t end)                            \
    {                                                                                              \
        (void)part;                                                                                \
        name##_range(context, begin, end);                                                         \
    }
PLANE_RANGE(moments, plane_moments)
PLANE_RANGE(apply, plane_apply)
PLANE_RANGE(backward_sums, plane_backward_sums)
PLANE_RANGE(backward, plane_backward)

static void over_planes(const struct cpu_network *n, struct plane_work *w,
                        void (*kernel)(void *context, int part, size_t begin, size_t end))
{
    host_parallel(n->engine->host.threads, (size_t)w->count * w->planes, 1, kernel, w);
}

// first[channels], second[channels] = the planes' two sums, added over samples in order.
static void add_planes(const struct plane_work *w, int channels, double *first, double *second)
{
    memset(first, 0, (size_t)channels * sizeof(*first));
    memset(second, 0, (size_t)channels * sizeof(*second));
    for (int i = 0; i < w->count; i++)
        for (int c = 0; c < channels; c++) {
            size_t plane = (size_t)i * w->planes + c / w->lanes;
            first[c] += w->sums[2 * plane * w->lanes + c % w->lanes];
            second[c] += w->sums[(2 * plane + 1) * w->lanes + c % w->lanes];
        }
}

// ---- what crosses micro-batches

static size_t forward_sums(struct cpu_network *n, struct layer *l, double *sums)
{
    struct plane_work w = plane_work(n, l);
    int channels = l->out.channels;
    over_planes(n, &w, moments);
    add_planes(&w, channels, sums, sums + channels);
    sums[2 * channels] = n->host.count;
    return 2 * (size_t)channels + 1;
}

static double inverse_deviation(const struct norm_state *s, int c)
{
    return 1.0 / sqrt((double)s->variance[c] + EPSILON);
}

static void forward_totals(struct cpu_network *n, struct layer *l, const double *totals)
{
    struct norm_state *s = &l->norm;
    int channels = l->out.channels;
    (void)n;
    s->values = totals[2 * channels] * l->out.height * l->out.width;
    for (int c = 0; c < channels; c++) {
        double mean = totals[c] / s->values;
        double variance = totals[channels + c] / s->values - mean * mean;
        s->mean[c] = (float)mean;
        s->variance[c] = variance < 0.0 ? 0.0F : (float)variance;
        s->factor[c] = (float)((double)s->scale[c] * inverse_deviation(s, c));
    }
}

// sums: dgamma without its 1 / deviation, dbeta.
static size_t backward_sums_of(struct cpu_network *n, struct layer *l, double *sums)
{
    struct norm_state *s = &l->norm;
    struct plane_work w = plane_work(n, l);
    int channels = l->out.channels;
    over_planes(n, &w, backward_sums);
    add_planes(&w, channels, sums + channels, sums);
    for (int c = 0; c < channels; c++) {
        s->scale_gradient[c] = (float)(sums[c] * inverse_deviation(s, c));
        s->shift_gradient[c] = (float)sums[channels + c];
    }
    return 2 * (size_t)channels;
}

static void backward_totals(struct cpu_network *n, struct layer *l, const double *totals)
{
    struct norm_state *s = &l->norm;
    int channels = l->out.channels;
    (void)n;
    for (int c = 0; c < channels; c++) {
        double inverse = inverse_deviation(s, c);
        s->base[c] = (float)(totals[channels + c] / s->values);
        s->slope[c] = (float)(totals[c] / s->values * inverse * inverse);
    }
}

// ---- the layer

static int synced_open(struct cpu_network *n, struct layer *l)
{
    float **vectors[] = {&l->norm.factor, &l->norm.base, &l->norm.slope};
    int rc = RETORT_OK;
    TRY(norm_open(n, l));
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        TRY(cpu_network_alloc(n, (size_t)l->out.padded * sizeof(float), vectors[i]));
fail:
    return rc;
}

static int synced_build(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    size_t sums = 2 * (size_t)count * l->out.padded * sizeof(double);
    int rc = RETORT_OK;
    TRY(norm_build_evaluation(n, l, k, count));
    if (n->host.training)
        TRY(cpu_scratch_reserve(n, &n->first->scratchpad, sums));
fail:
    return rc;
}

static int synced_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    struct plane_work w = plane_work(n, l);
    if (n->host.mode == FORWARD_EVAL)
        return norm_evaluate(n, k);
    over_planes(n, &w, apply);
    return RETORT_OK;
}

static int synced_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                           float *gradients)
{
    struct plane_work w = plane_work(n, l);
    (void)k;
    norm_give_gradients(n, l, gradients);
    over_planes(n, &w, backward);
    return RETORT_OK;
}

static const struct layer_sync FORWARD_SYNC = {forward_sums, forward_totals};
static const struct layer_sync BACKWARD_SYNC = {backward_sums_of, backward_totals};
const struct layer_ops SYNCED_NORM_LAYER = {
    .open = synced_open,
    .build = synced_build,
    .set_weights = norm_set_weights,
    .forward = synced_forward,
    .backward = synced_backward,
    .report_statistics = norm_report_statistics,
    .sync = {[HOST_FORWARD] = &FORWARD_SYNC, [HOST_BACKWARD] = &BACKWARD_SYNC},
    .in_place = true,
    .in_place_evaluate = true};
