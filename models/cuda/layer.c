// From the graph's nodes to layers, and the layers' buffers.

#include <stdlib.h>

#include "models/cuda/network.h"

// ---- layers

static const struct cuda_layer_ops *ops_of(enum node_kind kind)
{
    switch (kind) {
    case NODE_CONV:
    case NODE_LINEAR:
        return &CUDA_PRODUCT_LAYER;
    case NODE_BATCHNORM:
        return &CUDA_NORM_LAYER;
    case NODE_ACTIVATION:
        return &CUDA_RELU_LAYER;
    case NODE_AVGPOOL:
        return &CUDA_POOL_LAYER;
    case NODE_INPUT:
        break;
    }
    return NULL;
}

static struct cuda_shape shape_of(const struct node *node)
{
    return (struct cuda_shape){node->channels, node->height, node->width};
}

// Whether the layer before does the node's work too: an activation's or, behind that, a pool's.
static bool joins(const struct node *node, struct cuda_layer *before)
{
    bool norm = before->ops == &CUDA_NORM_LAYER, product = before->ops == &CUDA_PRODUCT_LAYER;
    if (before->pool > 0)
        return false;
    if (node->kind == NODE_ACTIVATION && !before->relu && (norm || product)) {
        before->relu = true;
        return true;
    }
    if (node->kind == NODE_AVGPOOL && norm) {
        before->pool = node->kernel;
        before->out = shape_of(node);
        return true;
    }
    return false;
}

static int add_node(struct cuda_network *n, int index)
{
    const struct node *node = &n->graph->nodes[index];
    const struct node *from = &n->graph->nodes[node->input];
    struct cuda_layer *before = n->layer_count > 0 ? &n->layers[n->layer_count - 1] : NULL;
    if (node->input != index - 1)
        return FAIL(RETORT_USAGE,
                    "device cuda runs chains of layers, and %s in %s reads an earlier "
                    "one",
                    node->name, n->graph->arch);
    if (node->kind == NODE_ACTIVATION && node->activation != ACTIVATION_RELU)
        return FAIL(RETORT_USAGE, "device cuda knows no activation but ReLU (%s)", node->name);
    if (before != NULL && joins(node, before))
        return RETORT_OK;
    n->layers[n->layer_count++] =
        (struct cuda_layer){.ops = ops_of(node->kind),
                            .node = node,
                            .relu = node->kind == NODE_ACTIVATION,
                            .pool = node->kind == NODE_AVGPOOL ? node->kernel : 0,
                            .in = shape_of(from),
                            .out = shape_of(node)};
    return RETORT_OK;
}

int cuda_layers_create(struct cuda_network *n)
{
    int rc = RETORT_OK;
    n->layers = calloc((size_t)n->graph->node_count, sizeof(*n->layers));
    TRY_ELSE(n->layers != NULL, RETORT_MEMORY, "no memory for %s", n->graph->arch);
    for (int i = 1; i < n->graph->node_count; i++)
        TRY(add_node(n, i));
    CHECK(n->layer_count > 0);
    struct cuda_layer *last = &n->layers[n->layer_count - 1];
    TRY_ELSE(n->graph->nodes[n->graph->node_count - 1].kind == NODE_LINEAR, RETORT_USAGE,
             "device cuda: %s must end in a linear layer", n->graph->arch);
    last->last = true;
fail:
    return rc;
}

// ---- buffers

static size_t layer_bytes(const struct cuda_network *n, const struct cuda_shape *s)
{
    return (size_t)n->max_batch * cuda_shape_elements(s) * element_bytes(n->engine->type);
}

// The largest output of a layer before the last.
static size_t most_bytes(const struct cuda_network *n)
{
    size_t most = 0;
    for (int i = 0; i + 1 < n->layer_count; i++)
        if (layer_bytes(n, &n->layers[i].out) > most)
            most = layer_bytes(n, &n->layers[i].out);
    return most;
}

// The logits before their bias, f32 whatever the engine's type.
static int last_output(struct cuda_network *n, struct cuda_layer *l)
{
    return cuda_network_alloc(
        n, (size_t)n->max_batch * cuda_shape_elements(&l->out) * sizeof(float), &l->y);
}

static bool in_place(const struct cuda_layer *l)
{
    return l->ops->in_place && l->pool == 0;
}

// Every output is kept for backward.
static int plan_training(struct cuda_network *n)
{
    void *gradients[2] = {NULL, NULL};
    int rc = RETORT_OK, turn = 0;
    for (int i = 0; i < n->layer_count; i++) {
        struct cuda_layer *l = &n->layers[i];
        l->x = i > 0 ? l[-1].y : NULL;
        if (l->last)
            TRY(last_output(n, l));
        else
            TRY(cuda_network_alloc(n, layer_bytes(n, &l->out), &l->y));
    }
    for (int i = 0; i < 2; i++)
        TRY(cuda_network_alloc(n, most_bytes(n), &gradients[i]));
    struct cuda_layer *last = &n->layers[n->layer_count - 1];
    TRY(cuda_network_alloc(n, layer_bytes(n, &last->out), &n->logit_gradients));
    last->dy = n->logit_gradients;
    for (int i = n->layer_count - 1; i > 0; i--) {
        struct cuda_layer *l = &n->layers[i];
        l->dx = in_place(l) ? l->dy : gradients[turn++ % 2];
        l[-1].dy = l->dx;
    }
fail:
    return rc;
}

// Two buffers in turn; the pictures are never written to.
static int plan_evaluation(struct cuda_network *n)
{
    void *outputs[2] = {NULL, NULL};
    int rc = RETORT_OK, turn = 0;
    for (int i = 0; i < 2; i++)
        TRY(cuda_network_alloc(n, most_bytes(n), &outputs[i]));
    for (int i = 0; i < n->layer_count; i++) {
        struct cuda_layer *l = &n->layers[i];
        l->x = i > 0 ? l[-1].y : NULL;
        if (l->last)
            TRY(last_output(n, l));
        else
            l->y = in_place(l) && i > 0 ? l->x : outputs[turn++ % 2];
    }
fail:
    return rc;
}

int cuda_layers_plan_memory(struct cuda_network *n)
{
    int rc = RETORT_OK;
    for (int i = 0; i < n->layer_count; i++) {
        struct cuda_layer *l = &n->layers[i];
        size_t padded = (size_t)channels_padded(l->out.channels);
        if (l->ops != &CUDA_NORM_LAYER)
            continue;
        TRY(cuda_network_alloc(n, NORM_VECTORS * padded * sizeof(float), &l->norm.vectors));
        TRY(cuda_network_alloc(n, sizeof(double), &l->norm.values));
    }
    return n->training ? plan_training(n) : plan_evaluation(n);
fail:
    return rc;
}
