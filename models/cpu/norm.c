// BatchNorm, with ReLU where the graph has one after it.

#include <string.h>

#include "base/error.h"
#include "models/cpu/network.h"

enum { OP_TRAIN, OP_EVAL, OP_BACKWARD };

int norm_open(struct cpu_network *n, struct layer *l)
{
    struct norm_state *s = &l->norm;
    float **shared[] = {&s->scale, &s->shift, &s->running_mean, &s->running_variance};
    float **own[] = {&s->mean, &s->variance, &s->scale_gradient, &s->shift_gradient};
    size_t bytes = (size_t)l->out.padded * sizeof(float);
    int rc = RETORT_OK;
    if (n->first != n)
        *s = n->first->layers[l - n->layers].norm;
    s->workspace = NULL;
    for (size_t i = 0; n->first == n && i < sizeof(shared) / sizeof(shared[0]); i++)
        TRY(cpu_network_alloc(n, bytes, shared[i]));
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        TRY(cpu_network_alloc(n, bytes, own[i]));
fail:
    return rc;
}

struct binding {
    int arg;
    void *data;
};

// Binds what there is and the operation has: the workspace comes with ReLU.
static int bind_all(struct cpu_network *n, struct dnn_op *op, const struct binding *bindings,
                    size_t count)
{
    int rc = RETORT_OK;
    for (size_t i = 0; i < count; i++)
        if (bindings[i].data != NULL && dnn_op_bytes(op, bindings[i].arg) > 0)
            TRY(dnn_op_bind(&n->engine->dnn, op, bindings[i].arg, bindings[i].data));
    TRY(cpu_op_adopt(n, op));
fail:
    return rc;
}

static int build_evaluation(struct cpu_network *n, struct layer *l, struct dnn_op *op,
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
        {DNNL_ARG_SHIFT, DNN_NORM_BACKWARD_TAKES_SHIFT ? s->shift : NULL},
        {DNNL_ARG_DIFF_DST, l->dy},
        {DNNL_ARG_DIFF_SRC, l->dx},
        {DNNL_ARG_DIFF_SCALE, s->scale_gradient},
        {DNNL_ARG_DIFF_SHIFT, s->shift_gradient},
        {DNNL_ARG_WORKSPACE, s->workspace},
    };
    TRY(bind_all(n, op, bindings, sizeof(bindings) / sizeof(bindings[0])));
fail:
    return rc;
}

static struct dnn_norm norm_shape(const struct layer *l, int count)
{
    return (struct dnn_norm){.count = count,
                             .channels = l->out.padded,
                             .height = l->out.height,
                             .width = l->out.width,
                             .plain = !l->out.blocked,
                             .relu = l->relu};
}

int norm_build_evaluation(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    struct dnn_norm shape = norm_shape(l, count);
    if (l->x == NULL)
        return FAIL(RETORT_USAGE, "device cpu cannot normalise the pictures themselves (%s)",
                    l->node->name);
    return build_evaluation(n, l, &k->op[OP_EVAL], &shape);
}

static int norm_build(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    struct dnn_norm shape = norm_shape(l, count);
    int rc = RETORT_OK;
    TRY(norm_build_evaluation(n, l, k, count));
    if (n->host.training) {
        TRY(build_train(n, l, &k->op[OP_TRAIN], &shape));
        TRY(build_backward(n, l, &k->op[OP_BACKWARD], &shape));
    }
fail:
    return rc;
}

static void take(const struct cpu_network *n, const struct layer *l, int param, float *to)
{
    memcpy(to, cpu_weights(n, param), (size_t)l->out.channels * sizeof(float));
}

// Padded channels keep scale 0 and shift 0, so they stay 0.
int norm_set_weights(struct cpu_network *n, struct layer *l)
{
    take(n, l, l->node->weight, l->norm.scale);
    take(n, l, l->node->bias, l->norm.shift);
    take(n, l, l->node->mean, l->norm.running_mean);
    take(n, l, l->node->variance, l->norm.running_variance);
    return RETORT_OK;
}

int norm_evaluate(struct cpu_network *n, struct kernels *k)
{
    return cpu_op_run(n, &k->op[OP_EVAL]);
}

static int norm_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    if (n->host.mode == FORWARD_EVAL)
        return norm_evaluate(n, k);
    l->norm.values = (double)n->host.count * l->out.height * l->out.width;
    return cpu_op_run(n, &k->op[OP_TRAIN]);
}

void norm_give_gradients(struct cpu_network *n, struct layer *l, float *gradients)
{
    size_t bytes = (size_t)l->out.channels * sizeof(float);
    memcpy(gradients + cpu_param(n, l->node->weight)->offset, l->norm.scale_gradient, bytes);
    memcpy(gradients + cpu_param(n, l->node->bias)->offset, l->norm.shift_gradient, bytes);
}

static int norm_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                         float *gradients)
{
    int rc = cpu_op_run(n, &k->op[OP_BACKWARD]);
    norm_give_gradients(n, l, gradients);
    return rc;
}

void norm_report_statistics(struct cpu_network *n, struct layer *l, double share, float *gradients)
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
