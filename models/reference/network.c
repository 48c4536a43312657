#include "models/reference/network.h"

#include <string.h>

#include "base/error.h"
#include "models/reference/operations.h"

static size_t node_elements(const struct node *n, int count)
{
    return (size_t)count * n->channels * n->height * n->width;
}

static const double *weight_of(const struct reference_network *r, int param)
{
    return param >= 0 ? r->arena + r->host.graph->params[param].offset : NULL;
}

static double *gradient_of(const struct reference_network *r, double *gradients, int param)
{
    return param >= 0 ? gradients + r->host.graph->params[param].offset : NULL;
}

// ---- life

static double *buffer_new(struct reference_network *r, size_t elements, int *rc)
{
    double *p = host_calloc(elements * sizeof(double));
    if (p == NULL && *rc == RETORT_OK)
        *rc = FAIL(RETORT_MEMORY, "no memory for %s with a batch of %d", r->host.graph->arch,
                   r->host.max_batch);
    r->memory_bytes += elements * sizeof(double);
    return p;
}

static int buffers_create(struct reference_network *r)
{
    const struct graph *g = r->host.graph;
    int rc = RETORT_OK, nodes = g->node_count;
    r->values = calloc((size_t)nodes, sizeof(*r->values));
    r->gradients = calloc((size_t)nodes, sizeof(*r->gradients));
    r->means = calloc((size_t)nodes, sizeof(*r->means));
    r->variances = calloc((size_t)nodes, sizeof(*r->variances));
    if (r->values == NULL || r->gradients == NULL || r->means == NULL || r->variances == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    for (int i = 1; i < nodes && rc == RETORT_OK; i++) {
        const struct node *n = &g->nodes[i];
        size_t elements = node_elements(n, r->host.max_batch);
        r->values[i] = buffer_new(r, elements, &rc);
        if (r->host.training)
            r->gradients[i] = buffer_new(r, elements, &rc);
        if (n->kind == NODE_BATCHNORM && r->host.training) {
            r->means[i] = buffer_new(r, (size_t)n->channels, &rc);
            r->variances[i] = buffer_new(r, (size_t)n->channels, &rc);
        }
    }
    return rc;
}

int reference_network_create(struct network **out, struct engine *e, const struct graph *g,
                             const struct network_options *options)
{
    struct reference_network *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    r->host = (struct host_network){.base.ops = e->ops,
                                    .engine = host_engine_of(e),
                                    .graph = g,
                                    .training = options->training,
                                    .max_batch = options->max_batch};
    int rc = buffers_create(r);
    if (rc != RETORT_OK) {
        reference_network_destroy(&r->host.base);
        return rc;
    }
    r->host.logits = r->values[g->node_count - 1];
    r->host.logit_gradients = r->gradients[g->node_count - 1];
    *out = &r->host.base;
    return RETORT_OK;
}

void reference_network_destroy(struct network *base)
{
    struct reference_network *r = (struct reference_network *)base;
    for (int i = 1; i < r->host.graph->node_count; i++) {
        if (r->values != NULL)
            free(r->values[i]);
        if (r->gradients != NULL)
            free(r->gradients[i]);
        if (r->means != NULL)
            free(r->means[i]);
        if (r->variances != NULL)
            free(r->variances[i]);
    }
    free(r->values);
    free(r->gradients);
    free(r->means);
    free(r->variances);
    free(r);
}

// ---- forward and backward

static struct conv_shape conv_shape_of(const struct reference_network *r, const struct node *n)
{
    const struct node *from = &r->host.graph->nodes[n->input];
    return (struct conv_shape){.count = r->host.count,
                               .in = from->channels,
                               .in_height = from->height,
                               .in_width = from->width,
                               .out = n->channels,
                               .out_height = n->height,
                               .out_width = n->width,
                               .kernel = n->kernel,
                               .stride = n->stride,
                               .padding = n->padding};
}

static struct pool_shape pool_shape_of(const struct reference_network *r, const struct node *n)
{
    const struct node *from = &r->host.graph->nodes[n->input];
    return (struct pool_shape){.planes = r->host.count * n->channels,
                               .in_height = from->height,
                               .in_width = from->width,
                               .out_height = n->height,
                               .out_width = n->width,
                               .kernel = n->kernel};
}

static void batchnorm_node_forward(struct reference_network *r, int index)
{
    const struct node *n = &r->host.graph->nodes[index];
    const double *x = r->values[n->input];
    const double *mean = weight_of(r, n->mean), *variance = weight_of(r, n->variance);
    int count = r->host.count, area = n->height * n->width;
    if (r->host.mode == FORWARD_TRAIN) {
        batchnorm_statistics(count, n->channels, area, x, r->means[index], r->variances[index]);
        mean = r->means[index];
        variance = r->variances[index];
    }
    batchnorm_forward(count, n->channels, area, x, weight_of(r, n->weight), weight_of(r, n->bias),
                      mean, variance, r->values[index]);
}

static void node_forward(struct reference_network *r, int index)
{
    const struct node *n = &r->host.graph->nodes[index], *from = &r->host.graph->nodes[n->input];
    const double *x = r->values[n->input], *w = weight_of(r, n->weight), *b = weight_of(r, n->bias);
    double *y = r->values[index];
    switch (n->kind) {
    case NODE_CONV: {
        struct conv_shape shape = conv_shape_of(r, n);
        conv_forward(&shape, x, w, b, y);
        break;
    }
    case NODE_BATCHNORM:
        batchnorm_node_forward(r, index);
        break;
    case NODE_ACTIVATION:
        activation_forward(n->activation, node_elements(n, r->host.count), x, y);
        break;
    case NODE_AVGPOOL: {
        struct pool_shape shape = pool_shape_of(r, n);
        avgpool_forward(&shape, x, y);
        break;
    }
    case NODE_LINEAR:
        linear_forward(r->host.count, (int)node_elements(from, 1), n->channels, x, w, b, y);
        break;
    case NODE_INPUT:
        break;
    }
}

int reference_network_forward(struct network *base, const struct input *in, enum forward_mode mode)
{
    struct reference_network *r = (struct reference_network *)base;
    CHECK(r->arena != NULL);
    int rc = host_forward_begin(&r->host, in, mode);
    if (rc != RETORT_OK)
        return rc;
    r->values[0] = host_input_of(in)->values;
    for (int i = 1; i < r->host.graph->node_count; i++)
        node_forward(r, i);
    return RETORT_OK;
}

// Adds to the gradient of the node it reads (not to the pictures'), sets its parameters'.
static void node_backward(struct reference_network *r, int index, double *gradients)
{
    const struct node *n = &r->host.graph->nodes[index], *from = &r->host.graph->nodes[n->input];
    const double *x = r->values[n->input], *w = weight_of(r, n->weight), *dy = r->gradients[index];
    double *dx = r->gradients[n->input];
    double *dw = gradient_of(r, gradients, n->weight), *db = gradient_of(r, gradients, n->bias);
    switch (n->kind) {
    case NODE_CONV: {
        struct conv_shape shape = conv_shape_of(r, n);
        conv_backward(&shape, x, w, dy, dx, dw, db);
        break;
    }
    case NODE_BATCHNORM:
        batchnorm_backward(r->host.count, n->channels, n->height * n->width, x, w, r->means[index],
                           r->variances[index], dy, dx, dw, db);
        break;
    case NODE_ACTIVATION:
        activation_backward(n->activation, node_elements(n, r->host.count), x, dy, dx);
        break;
    case NODE_AVGPOOL: {
        struct pool_shape shape = pool_shape_of(r, n);
        avgpool_backward(&shape, dy, dx);
        break;
    }
    case NODE_LINEAR:
        linear_backward(r->host.count, (int)node_elements(from, 1), n->channels, x, w, dy, dx, dw,
                        db);
        break;
    case NODE_INPUT:
        break;
    }
}

// Statistics travel with the gradients: count / global batch × (mean | unbiased variance).
static void statistics_report(const struct reference_network *r, double share, double *gradients)
{
    const struct graph *g = r->host.graph;
    for (int i = 1; i < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        if (n->kind != NODE_BATCHNORM)
            continue;
        double values = (double)r->host.count * n->height * n->width;
        double unbiased = values > 1.0 ? values / (values - 1.0) : 1.0;
        double *mean = gradient_of(r, gradients, n->mean);
        double *variance = gradient_of(r, gradients, n->variance);
        for (int c = 0; c < n->channels; c++) {
            mean[c] = share * r->means[i][c];
            variance[c] = share * unbiased * r->variances[i][c];
        }
    }
}

static int report_ready(const struct ready_callback *on_ready, size_t begin, size_t end)
{
    return on_ready != NULL && end > begin ? on_ready->ready(on_ready->context, begin, end)
                                           : RETORT_OK;
}

// From the last node to the first; parameters lie in node order, so what is ready grows downwards.
int reference_network_backward(struct network *base, void *gradients,
                               const struct step_scalars *scalars,
                               const struct ready_callback *on_ready)
{
    struct reference_network *r = (struct reference_network *)base;
    const struct graph *g = r->host.graph;
    int rc = RETORT_OK;
    TRY(host_backward_begin(&r->host));
    statistics_report(r, r->host.count * scalars->inverse_batch, gradients);
    TRY(report_ready(on_ready, g->trainable, g->total));
    for (int i = 1; i < g->node_count - 1; i++)
        memset(r->gradients[i], 0, node_elements(&g->nodes[i], r->host.count) * sizeof(double));
    size_t ready = g->trainable;
    for (int i = g->node_count - 1; i > 0; i--) {
        node_backward(r, i, gradients);
        if (g->nodes[i].weight < 0)
            continue;
        size_t begin = g->params[g->nodes[i].weight].offset;
        TRY(report_ready(on_ready, begin, ready));
        ready = begin;
    }
fail:
    return rc;
}
