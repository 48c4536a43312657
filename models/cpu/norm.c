// BatchNorm, with ReLU where the graph has one after it, plain or synchronised: the same kernels
// (norm_kernels.h), and the same sums, which a synchronised one gives away to get the whole
// batch's.

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "models/cpu/network.h"
#include "models/cpu/norm_kernels.h"

static const double EPSILON = 1e-5;

static int norm_open(struct cpu_network *n, struct layer *l)
{
    struct norm_state *s = &l->norm;
    float **shared[] = {&s->scale, &s->shift, &s->running_mean, &s->running_variance};
    float **own[] = {&s->mean,   &s->variance, &s->scale_gradient, &s->shift_gradient,
                     &s->factor, &s->base,     &s->slope};
    size_t bytes = (size_t)l->out.padded * sizeof(float);
    int rc = RETORT_OK;
    if (n->first != n)
        *s = n->first->layers[l - n->layers].norm;
    for (size_t i = 0; n->first == n && i < sizeof(shared) / sizeof(shared[0]); i++)
        TRY(cpu_network_alloc(n, bytes, shared[i]));
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        TRY(cpu_network_alloc(n, bytes, own[i]));
fail:
    return rc;
}

static void take(const struct cpu_network *n, const struct layer *l, int param, float *to)
{
    memcpy(to, cpu_weights(n, param), (size_t)l->out.channels * sizeof(float));
}

// Padded channels keep scale 0 and shift 0, so they stay 0.
static int norm_set_weights(struct cpu_network *n, struct layer *l)
{
    take(n, l, l->node->weight, l->norm.scale);
    take(n, l, l->node->bias, l->norm.shift);
    take(n, l, l->node->mean, l->norm.running_mean);
    take(n, l, l->node->variance, l->norm.running_variance);
    return RETORT_OK;
}

// `count` samples by the micro-batch's, or the whole batch's, statistics.
static struct norm_work work_of(struct cpu_network *n, const struct layer *l, int count)
{
    const struct norm_state *s = &l->norm;
    int lanes = shape_lanes(n, &l->out);
    return (struct norm_work){.threads = n->engine->host.threads,
                              .count = count,
                              .planes = l->out.padded / lanes,
                              .lanes = lanes,
                              .pixels = (size_t)l->out.height * l->out.width,
                              .relu = l->relu,
                              .narrow = l->out.narrow,
                              .x = l->x != NULL ? l->x : n->pictures,
                              .mean = s->mean,
                              .factor = s->factor,
                              .shift = s->shift,
                              .base = s->base,
                              .slope = s->slope,
                              .partials = n->first->scratchpad.data};
}

static int norm_build(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    struct norm_work w = work_of(n, l, count);
    (void)k;
    if (!n->host.training)
        return RETORT_OK;
    return cpu_scratch_reserve(n, &n->first->scratchpad, norm_partials(&w) * sizeof(double));
}

static double inverse_deviation(const float *variance, int c)
{
    return 1.0 / sqrt((double)variance[c] + EPSILON);
}

void norm_fold(const struct cpu_network *n, const struct node *norm, int channel, double *factor,
               double *shift)
{
    *factor = (double)cpu_weights(n, norm->weight)[channel] *
              inverse_deviation(cpu_weights(n, norm->variance), channel);
    *shift = (double)cpu_weights(n, norm->bias)[channel] -
             *factor * (double)cpu_weights(n, norm->mean)[channel];
}

static void set_factor(const struct layer *l, const float *variance)
{
    for (int c = 0; c < l->out.channels; c++)
        l->norm.factor[c] = (float)((double)l->norm.scale[c] * inverse_deviation(variance, c));
}

// ---- what crosses micro-batches: sums forward, and backward

static size_t forward_sums(struct cpu_network *n, struct layer *l, double *sums)
{
    struct norm_work w = work_of(n, l, n->host.count);
    int channels = l->out.channels;
    norm_moments(&w, channels, sums, sums + channels);
    sums[2 * channels] = n->host.count;
    return 2 * (size_t)channels + 1;
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
    }
    set_factor(l, s->variance);
}

// sums: dgamma without its 1 / deviation, dbeta.
static size_t backward_sums(struct cpu_network *n, struct layer *l, double *sums)
{
    struct norm_state *s = &l->norm;
    struct norm_work w = work_of(n, l, n->host.count);
    int channels = l->out.channels;
    norm_gradient_sums(&w, l->dy, channels, sums + channels, sums);
    for (int c = 0; c < channels; c++) {
        s->scale_gradient[c] = (float)(sums[c] * inverse_deviation(s->variance, c));
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
        double inverse = inverse_deviation(s->variance, c);
        s->base[c] = (float)(totals[channels + c] / s->values);
        s->slope[c] = (float)(totals[c] / s->values * inverse * inverse);
    }
}

// ---- the layer

static int synced_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    struct norm_work w = work_of(n, l, n->host.count);
    (void)k;
    if (n->host.mode == FORWARD_EVAL) {
        w.mean = l->norm.running_mean;
        set_factor(l, l->norm.running_variance);
    }
    norm_apply(&w, l->y);
    return RETORT_OK;
}

// The micro-batch is all there is.
static int norm_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    if (n->host.mode == FORWARD_TRAIN) {
        forward_sums(n, l, n->host.base.sums);
        forward_totals(n, l, n->host.base.sums);
    }
    return synced_forward(n, l, k);
}

static int synced_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                           float *gradients)
{
    struct norm_work w = work_of(n, l, n->host.count);
    size_t bytes = (size_t)l->out.channels * sizeof(float);
    (void)k;
    memcpy(gradients + cpu_param(n, l->node->weight)->offset, l->norm.scale_gradient, bytes);
    memcpy(gradients + cpu_param(n, l->node->bias)->offset, l->norm.shift_gradient, bytes);
    if (l->dx != NULL)
        norm_gradient(&w, l->dy, l->dx);
    return RETORT_OK;
}

static int norm_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                         float *gradients)
{
    backward_sums(n, l, n->host.base.sums);
    backward_totals(n, l, n->host.base.sums);
    return synced_backward(n, l, k, gradients);
}

static void norm_report_statistics(struct cpu_network *n, struct layer *l, double share,
                                   float *gradients)
{
    float *mean = gradients + cpu_param(n, l->node->mean)->offset;
    float *variance = gradients + cpu_param(n, l->node->variance)->offset;
    double values = l->norm.values;
    double unbiased = values > 1.0 ? values / (values - 1.0) : 1.0;
    for (int c = 0; c < l->out.channels; c++) {
        mean[c] = (float)(share * (double)l->norm.mean[c]);
        variance[c] = (float)(share * unbiased * (double)l->norm.variance[c]);
    }
}

const struct layer_ops NORM_LAYER = {.open = norm_open,
                                     .build = norm_build,
                                     .set_weights = norm_set_weights,
                                     .forward = norm_forward,
                                     .backward = norm_backward,
                                     .report_statistics = norm_report_statistics,
                                     .in_place = true,
                                     .in_place_evaluate = true};

static const struct layer_sync FORWARD_SYNC = {forward_sums, forward_totals};
static const struct layer_sync BACKWARD_SYNC = {backward_sums, backward_totals};
const struct layer_ops SYNCED_NORM_LAYER = {
    .open = norm_open,
    .build = norm_build,
    .set_weights = norm_set_weights,
    .forward = synced_forward,
    .backward = synced_backward,
    .report_statistics = norm_report_statistics,
    .sync = {[HOST_FORWARD] = &FORWARD_SYNC, [HOST_BACKWARD] = &BACKWARD_SYNC},
    .in_place = true,
    .in_place_evaluate = true};
