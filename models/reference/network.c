#include "models/reference/network.h"

#include <string.h>

#include "base/error.h"
#include "models/reference/operations.h"

static struct reference_network *reference_of(const struct host_network *n)
{
    return (struct reference_network *)(uintptr_t)n;
}

static size_t node_elements(const struct node *n, int count)
{
    return (size_t)count * n->channels * n->height * n->width;
}

// ---- shapes

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

// ---- forward and backward: layer i is node i + 1

static void node_forward(struct reference_network *r, int index)
{
    const struct node *n = &r->host.graph->nodes[index], *from = &r->host.graph->nodes[n->input];
    const double *x = r->values[n->input], *w = reference_weight(r, n->weight),
                 *b = reference_weight(r, n->bias);
    double *y = r->values[index];
    switch (n->kind) {
    case NODE_CONV: {
        struct conv_shape shape = conv_shape_of(r, n);
        conv_forward(&shape, x, w, b, y);
        break;
    }
    case NODE_BATCHNORM:
        reference_norm_forward(r, index);
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

static int reference_forward_begin(struct host_network *n, const struct host_input *in)
{
    struct reference_network *r = reference_of(n);
    CHECK(r->weights->arena != NULL);
    r->values[0] = in->values;
    return RETORT_OK;
}

static int reference_forward(struct host_network *n, int layer)
{
    node_forward(reference_of(n), layer + 1);
    return RETORT_OK;
}

// Adds to the gradient of the node it reads (not to the pictures'), sets its parameters'.
static void node_backward(struct reference_network *r, int index, double *gradients)
{
    const struct node *n = &r->host.graph->nodes[index], *from = &r->host.graph->nodes[n->input];
    const double *x = r->values[n->input], *w = reference_weight(r, n->weight),
                 *dy = r->gradients[index];
    double *dx = r->gradients[n->input];
    double *dw = reference_gradient(r, gradients, n->weight),
           *db = reference_gradient(r, gradients, n->bias);
    switch (n->kind) {
    case NODE_CONV: {
        struct conv_shape shape = conv_shape_of(r, n);
        conv_backward(&shape, x, w, dy, dx, dw, db);
        break;
    }
    case NODE_BATCHNORM:
        reference_norm_backward(r, index, dw, db);
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

static int reference_backward_begin(struct host_network *n, double share, void *gradients)
{
    struct reference_network *r = reference_of(n);
    const struct graph *g = n->graph;
    reference_norm_report(r, share, gradients);
    for (int i = 1; i < g->node_count - 1; i++)
        memset(r->gradients[i], 0, node_elements(&g->nodes[i], n->count) * sizeof(double));
    return RETORT_OK;
}

static int reference_backward(struct host_network *n, int layer, void *gradients)
{
    node_backward(reference_of(n), layer + 1, gradients);
    return RETORT_OK;
}

static const struct param *reference_param(const struct host_network *n, int layer)
{
    int weight = n->graph->nodes[layer + 1].weight;
    return weight >= 0 ? &n->graph->params[weight] : NULL;
}

static size_t reference_sums(struct host_network *n, int layer, enum host_pass pass, int stop,
                             double *sums)
{
    return n->graph->nodes[layer + 1].synced
               ? reference_norm_sums(reference_of(n), layer + 1, pass, stop, sums)
               : 0;
}

static void reference_totals(struct host_network *n, int layer, enum host_pass pass, int stop,
                             const double *totals)
{
    reference_norm_totals(reference_of(n), layer + 1, pass, stop, totals);
}

static const struct host_layers LAYERS = {.forward_begin = reference_forward_begin,
                                          .forward = reference_forward,
                                          .backward_begin = reference_backward_begin,
                                          .backward = reference_backward,
                                          .param = reference_param,
                                          .sums = reference_sums,
                                          .totals = reference_totals};

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
    r->samples = calloc((size_t)nodes, sizeof(*r->samples));
    if (r->values == NULL || r->gradients == NULL || r->means == NULL || r->variances == NULL ||
        r->samples == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    if (r->host.training) {
        r->host.base.sums = buffer_new(r, host_sums_most(g), &rc);
        r->own = buffer_new(r, host_sums_most(g), &rc);
        r->whole = buffer_new(r, host_sums_most(g), &rc);
    }
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
                             const struct network_options *options, struct network *weights_of)
{
    struct reference_network *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    r->host = (struct host_network){.base.ops = e->ops,
                                    .engine = host_engine_of(e),
                                    .layers = &LAYERS,
                                    .layer_count = g->node_count - 1,
                                    .graph = g,
                                    .training = options->training,
                                    .max_batch = options->max_batch};
    r->weights = weights_of != NULL ? (struct reference_network *)weights_of : r;
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
    free(r->samples);
    free(r->host.base.sums);
    free(r->own);
    free(r->whole);
    free(r);
}
