// BatchNorm, with ReLU where the graph has one after it.

#include <string.h>

#include "base/error.h"
#include "models/cpu/network.h"

enum { OP_TRAIN, OP_EVAL, OP_BACKWARD };

static int norm_open(struct cpu_network *n, struct layer *l)
{
    struct norm_state *s = &l->norm;
    float **vectors[] = {&s->scale, &s->shift,    &s->running_mean,   &s->running_variance,
                         &s->mean,  &s->variance, &s->scale_gradient, &s->shift_gradient};
    int rc = RETORT_OK;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        TRY(cpu_network_alloc(n, (size_t)l->out.padded * sizeof(float), vectors[i]));
fail:
    return rc;
}

struct binding {
    int arg;
    void *data;
};

// Binds what the operation has: the workspace comes with ReLU, the shift in backward with
// version 2.
static int bind_all(struct cpu_network *n, struct dnn_op *op, const struct binding *bindings,
                    size_t count)
{
    int rc = RETORT_OK;
    for (size_t i = 0; i < count; i++)
        if (dnn_op_bytes(op, bindings[i].arg) > 0)
            TRY(dnn_op_bind(&n->engine->dnn, op, bindings[i].arg, bindings[i].data));
    TRY(cpu_op_adopt(n, op));
fail:
    return rc;
}

static int build_eval(struct cpu_network *n, struct layer *l, struct dnn_op *op,
                      const struct dnn_norm *shape)
{
    struct norm_state *s = &l->norm;
    const struct binding bindings[] = {
        {DNNL_ARG_SRC, l->x},
        {DNNL_ARG_MEAN, s->running_mean},
        {DNNL_ARG_VARIANCE, s->running_variance},
        {DNNL_ARG_SCALE, s->scale},
        {DNNL_ARG_SHIFT, s->shift},
        {DNNL_ARG_DST, l->y},
    };
    int rc = dnn_norm_create(op, &n->engine->dnn, shape, DNN_NORM_EVAL);
    return rc ? rc : bind_all(n, op, bindings, sizeof(bindings) / sizeof(bindings[0]));
}

static int build_train(struct cpu_network *n, struct layer *l, struct dnn_op *op,
                       const struct dnn_norm *shape)
{
    struct norm_state *s = &l->norm;
    int rc = RETORT_OK;
    TRY(dnn_norm_create(op, &n->engine->dnn, shape, DNN_NORM_TRAIN));
    size_t workspace = dnn_op_bytes(op, DNNL_ARG_WORKSPACE);
    if (workspace > 0 && s->workspace == NULL) // the first size made is max_batch
        TRY(cpu_network_alloc(n, workspace, &s->workspace));
    const struct binding bindings[] = {
        {DNNL_ARG_SRC, l->x},
        {DNNL_ARG_MEAN, s->mean},
        {DNNL_ARG_VARIANCE, s->variance},
        {DNNL_ARG_SCALE, s->scale},
        {DNNL_ARG_SHIFT, s->shift},
        {DNNL_ARG_DST, l->y},
        {DNNL_ARG_WORKSPACE, s->workspace},
    };
    TRY(bind_all(n, op, bindings, sizeof(bindings) / sizeof(bindings[0])));
fail:
    return rc;
}

static int build_backward(struct cpu_network *n, struct layer *l, struct dnn_op *op,
                          const struct dnn_norm *shape)
{
    struct norm_state *s = &l->norm;
    int rc = RETORT_OK;
    TRY(dnn_norm_create(op, &n->engine->dnn, shape, DNN_NORM_BACKWARD));
    const struct binding bindings[] = {
        {DNNL_ARG_SRC, l->x},
        {DNNL_ARG_MEAN, s->mean},
        {DNNL_ARG_VARIANCE, s->variance},
        {DNNL_ARG_SCALE, s->scale},
        {DNNL_ARG_SHIFT, s->shift},
        {DNNL_ARG_DIFF_DST, l->dy},
        {DNNL_ARG_DIFF_SRC, l->dx},
        {DNNL_ARG_DIFF_SCALE, s->scale_gradient},
        {DNNL_ARG_DIFF_SHIFT, s->shift_gradient},
        {DNNL_ARG_WORKSPACE, s->workspace},
    };
    TRY(bind_all(n, op, bindings, sizeof(bindings) / sizeof(bindings[0]) - (s->workspace == NULL)));
fail:
    return rc;
}

static int norm_build(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    struct dnn_norm shape = {.count = count,
                             .channels = l->out.padded,
                             .height = l->out.height,
                             .width = l->out.width,
                             .plain = !l->out.blocked,
                             .relu = l->relu};
    int rc = RETORT_OK;
    TRY_ELSE(l->x != NULL, RETORT_USAGE, "device cpu cannot normalise the pictures themselves (%s)",
             l->node->name);
    TRY(build_eval(n, l, &k->op[OP_EVAL], &shape));
    if (n->host.training) {
        TRY(build_train(n, l, &k->op[OP_TRAIN], &shape));
        TRY(build_backward(n, l, &k->op[OP_BACKWARD], &shape));
    }
fail:
    return rc;
}

static void take(const struct cpu_network *n, const struct layer *l, int param, float *to)
{
    memcpy(to, n->arena + cpu_param(n, param)->offset, (size_t)l->out.channels * sizeof(float));
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

static int norm_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)l;
    return cpu_op_run(n, &k->op[n->host.mode == FORWARD_TRAIN ? OP_TRAIN : OP_EVAL]);
}

static int norm_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                         float *gradients)
{
    size_t bytes = (size_t)l->out.channels * sizeof(float);
    int rc = cpu_op_run(n, &k->op[OP_BACKWARD]);
    memcpy(gradients + cpu_param(n, l->node->weight)->offset, l->norm.scale_gradient, bytes);
    memcpy(gradients + cpu_param(n, l->node->bias)->offset, l->norm.shift_gradient, bytes);
    return rc;
}

static void norm_report_statistics(struct cpu_network *n, struct layer *l, double share,
                                   float *gradients)
{
    float *mean = gradients + cpu_param(n, l->node->mean)->offset;
    float *variance = gradients + cpu_param(n, l->node->variance)->offset;
    double values = (double)n->host.count * l->out.height * l->out.width;
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
