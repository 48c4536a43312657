#include "models/graph.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"

// Grows in powers of two: *items holds `count` items of `size` bytes.
static int grow(void **items, int count, size_t size)
{
    if ((count & (count - 1)) != 0)
        return RETORT_OK;
    size_t capacity = count == 0 ? 1 : (size_t)count * 2;
    void *larger = realloc(*items, capacity * size);
    if (larger == NULL)
        return FAIL(RETORT_MEMORY, "no memory for a layer graph");
    *items = larger;
    return RETORT_OK;
}

// Appends a node shaped like the one it reads; the caller fills in what differs.
static int node_add(struct graph *g, enum node_kind kind, const char *name, struct node **out)
{
    int rc = grow((void **)&g->nodes, g->node_count, sizeof(*g->nodes));
    if (rc != RETORT_OK)
        return rc;
    struct node *n = &g->nodes[g->node_count];
    *n = (struct node){.kind = kind,
                       .input = g->node_count - 1,
                       .weight = -1,
                       .bias = -1,
                       .mean = -1,
                       .variance = -1};
    if (g->node_count > 0) {
        n->channels = n[-1].channels;
        n->height = n[-1].height;
        n->width = n[-1].width;
    }
    snprintf(n->name, sizeof(n->name), "%s", name);
    g->node_count++;
    *out = n;
    return RETORT_OK;
}

static const char *role_suffix(enum param_role role)
{
    switch (role) {
    case PARAM_WEIGHT:
    case PARAM_GAMMA:
        return "weight";
    case PARAM_BIAS:
    case PARAM_BETA:
        return "bias";
    case STAT_MEAN:
        return "running_mean";
    case STAT_VARIANCE:
        break;
    }
    return "running_var";
}

// Appends a parameter of `n`; offsets come with graph_finish.
static int param_add(struct graph *g, const struct node *n, enum param_role role, int rank,
                     const int *dims, int *index)
{
    int rc = grow((void **)&g->params, g->param_count, sizeof(*g->params));
    if (rc != RETORT_OK)
        return rc;
    struct param *p = &g->params[g->param_count];
    *p = (struct param){.role = role,
                        .node = (int)(n - g->nodes),
                        .count = 1,
                        .rank = rank,
                        .decay = role == PARAM_WEIGHT};
    for (int i = 0; i < rank; i++) {
        p->dims[i] = dims[i];
        p->count *= (size_t)dims[i];
    }
    if (role == PARAM_WEIGHT) {
        int taps = rank == 4 ? dims[2] * dims[3] : 1;
        p->fan_in = dims[1] * taps;
        p->fan_out = dims[0] * taps;
    }
    snprintf(p->name, sizeof(p->name), "%s.%s", n->name, role_suffix(role));
    *index = g->param_count++;
    return RETORT_OK;
}

int graph_begin(struct graph **out, const char *arch, int channels, int height, int width)
{
    *out = NULL;
    if (channels < 1 || height < 1 || width < 1)
        return FAIL(RETORT_USAGE, "%s: a picture of %d x %d x %d has no pixels", arch, channels,
                    height, width);
    struct graph *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return FAIL(RETORT_MEMORY, "no memory for a layer graph");
    snprintf(g->arch, sizeof(g->arch), "%s", arch);
    struct node *n;
    int rc = node_add(g, NODE_INPUT, "input", &n);
    if (rc != RETORT_OK) {
        graph_destroy(&g);
        return rc;
    }
    n->channels = channels;
    n->height = height;
    n->width = width;
    *out = g;
    return RETORT_OK;
}

int graph_add_conv(struct graph *g, const char *name, int channels, int kernel, int stride,
                   bool has_bias)
{
    struct node *n;
    int rc = RETORT_OK;
    TRY(node_add(g, NODE_CONV, name, &n));
    int dims[4] = {channels, n->channels, kernel, kernel};
    n->channels = channels;
    n->kernel = kernel;
    n->stride = stride;
    n->padding = kernel / 2;
    n->has_bias = has_bias;
    int height = n->height + 2 * n->padding - kernel, width = n->width + 2 * n->padding - kernel;
    TRY_ELSE(height >= 0 && width >= 0, RETORT_USAGE, "%s: the picture is too small for %s",
             g->arch, name);
    n->height = height / stride + 1;
    n->width = width / stride + 1;
    TRY(param_add(g, n, PARAM_WEIGHT, 4, dims, &n->weight));
    if (has_bias)
        TRY(param_add(g, n, PARAM_BIAS, 1, dims, &n->bias));
fail:
    return rc;
}

int graph_add_batchnorm(struct graph *g, const char *name, bool synced)
{
    struct node *n;
    int rc = RETORT_OK;
    TRY(node_add(g, NODE_BATCHNORM, name, &n));
    n->synced = synced;
    TRY(param_add(g, n, PARAM_GAMMA, 1, &n->channels, &n->weight));
    TRY(param_add(g, n, PARAM_BETA, 1, &n->channels, &n->bias));
fail:
    return rc;
}

int graph_add_activation(struct graph *g, const char *name, int64_t activation)
{
    if (activation == ACTIVATION_NONE)
        return RETORT_OK;
    struct node *n;
    int rc = node_add(g, NODE_ACTIVATION, name, &n);
    if (rc == RETORT_OK)
        n->activation = (int)activation;
    return rc;
}

int graph_add_avgpool(struct graph *g, const char *name, int kernel)
{
    struct node *n;
    int rc = RETORT_OK;
    TRY(node_add(g, NODE_AVGPOOL, name, &n));
    TRY_ELSE(n->height >= kernel && n->width >= kernel, RETORT_USAGE,
             "%s: the picture is too small: %d x %d is left before %s, which needs %d x %d; use "
             "larger pictures or a network with fewer strides",
             g->arch, n->height, n->width, name, kernel, kernel);
    n->kernel = kernel;
    n->stride = kernel;
    n->height /= kernel;
    n->width /= kernel;
fail:
    return rc;
}

int graph_add_linear(struct graph *g, const char *name, int channels)
{
    struct node *n;
    int rc = RETORT_OK;
    TRY(node_add(g, NODE_LINEAR, name, &n));
    int dims[2] = {channels, n->channels * n->height * n->width};
    n->channels = channels;
    n->height = 1;
    n->width = 1;
    n->has_bias = true;
    TRY(param_add(g, n, PARAM_WEIGHT, 2, dims, &n->weight));
    TRY(param_add(g, n, PARAM_BIAS, 1, dims, &n->bias));
fail:
    return rc;
}

int graph_finish(struct graph *g)
{
    int rc = RETORT_OK;
    int trainable_params = g->param_count;
    for (int i = 0; i < trainable_params; i++) {
        g->params[i].offset = g->trainable;
        g->trainable += g->params[i].count;
    }
    g->total = g->trainable;
    for (int i = 0; i < trainable_params; i++) {
        if (g->params[i].role != PARAM_GAMMA)
            continue;
        struct node *n = &g->nodes[g->params[i].node];
        TRY(param_add(g, n, STAT_MEAN, 1, &n->channels, &n->mean));
        TRY(param_add(g, n, STAT_VARIANCE, 1, &n->channels, &n->variance));
    }
    for (int i = trainable_params; i < g->param_count; i++) {
        g->params[i].offset = g->total;
        g->total += g->params[i].count;
    }
    g->classes = g->nodes[g->node_count - 1].channels;
fail:
    return rc;
}

void graph_destroy(struct graph **p)
{
    if (*p == NULL)
        return;
    free((*p)->nodes);
    free((*p)->params);
    free(*p);
    *p = NULL;
}

double graph_flops(const struct graph *g)
{
    double flops = 0.0;
    for (int i = 0; i < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        if (n->kind == NODE_CONV || n->kind == NODE_LINEAR)
            flops += 2.0 * (double)g->params[n->weight].count * n->height * n->width;
    }
    return flops;
}
