#include "base/error.h"
#include "models/cpu/element.h"
#include "models/cpu/network.h"

size_t shape_elements(const struct shape *s)
{
    return (size_t)s->padded * s->height * s->width;
}

int shape_lanes(const struct cpu_network *n, const struct shape *s)
{
    const struct dnn *d = &n->engine->dnn;
    return !s->blocked ? 1 : d->narrow ? s->padded : d->block;
}

bool gradient_is_narrow(const struct cpu_network *n, const struct shape *s)
{
    return n->engine->dnn.narrow && s->blocked;
}

static struct shape shape_blocked(const struct cpu_network *n, int channels, int height, int width)
{
    int block = n->engine->dnn.block;
    return (struct shape){.channels = channels,
                          .padded = (channels + block - 1) / block * block,
                          .height = height,
                          .width = width,
                          .blocked = true,
                          .narrow = n->engine->dnn.narrow};
}

static struct shape shape_plain(int channels, int height, int width)
{
    return (struct shape){
        .channels = channels, .padded = channels, .height = height, .width = width};
}

// Shape of what the next layer reads.
static struct shape chain_end(const struct cpu_network *n)
{
    const struct node *first = &n->host.graph->nodes[0];
    return n->layer_count > 0 ? n->layers[n->layer_count - 1].out
                              : shape_plain(first->channels, first->height, first->width);
}

static struct layer *append(struct cpu_network *n, const struct layer_ops *ops,
                            const struct node *node)
{
    struct layer *l = &n->layers[n->layer_count];
    struct shape in = chain_end(n);
    *l = (struct layer){.ops = ops, .node = node, .in = in, .out = in};
    n->layer_count++;
    return l;
}

// Blocks to plain values in (C, H, W) order.
static void append_plain(struct cpu_network *n, const struct node *node)
{
    struct shape in = chain_end(n);
    if (in.blocked)
        append(n, &LAYOUT_LAYER, node)->out = shape_plain(in.channels, in.height, in.width);
}

// What a fully connected layer reads: rows in (C, H, W) order.
static void append_rows(struct cpu_network *n, const struct node *node)
{
    struct shape in = chain_end(n);
    int pixels = in.height * in.width;
    if (!n->engine->dnn.narrow)
        append_plain(n, node);
    else if (!in.blocked || pixels > 1)
        append(n, &LAYOUT_LAYER, node)->out = shape_blocked(n, in.channels * pixels, 1, 1);
}

// In bf16 it is a convolution (conv.c).
static void append_linear(struct cpu_network *n, const struct node *node)
{
    bool narrow = n->engine->dnn.narrow;
    append_rows(n, node);
    append(n, narrow ? &CONV_LAYER : &LINEAR_LAYER, node)->out =
        narrow ? shape_blocked(n, node->channels, 1, 1) : shape_plain(node->channels, 1, 1);
}

// A convolution's that nothing follows yet, where no statistics are taken: it does BatchNorm's
// work.
static bool folds_norm(const struct cpu_network *n)
{
    const struct layer *last = n->layer_count > 0 ? &n->layers[n->layer_count - 1] : NULL;
    return !n->host.training && last != NULL && last->ops == &CONV_LAYER && !last->relu &&
           last->folded == NULL;
}

static int append_node(struct cpu_network *n, const struct node *node)
{
    struct layer *l;
    if (n->engine->dnn.narrow && n->layer_count == 0 && node->kind != NODE_LINEAR)
        append(n, &LAYOUT_LAYER, node)->out =
            shape_blocked(n, chain_end(n).channels, chain_end(n).height, chain_end(n).width);
    switch (node->kind) {
    case NODE_CONV:
        l = append(n, &CONV_LAYER, node);
        l->out = shape_blocked(n, node->channels, node->height, node->width);
        break;
    case NODE_BATCHNORM:
        if (folds_norm(n))
            n->layers[n->layer_count - 1].folded = node;
        else
            append(n, node->synced ? &SYNCED_NORM_LAYER : &NORM_LAYER, node);
        break;
    case NODE_ACTIVATION:
        if (node->activation != ACTIVATION_RELU)
            return FAIL(RETORT_USAGE, "device cpu has no activation like that of %s", node->name);
        append(n, &RELU_LAYER, node);
        break;
    case NODE_AVGPOOL:
        l = append(n, &POOL_LAYER, node);
        l->out.height = node->height;
        l->out.width = node->width;
        break;
    case NODE_LINEAR:
        append_linear(n, node);
        break;
    case NODE_INPUT:
        break;
    }
    return RETORT_OK;
}

static bool fuses_relu(const struct cpu_network *n)
{
    const struct layer_ops *ops = n->layer_count > 0 ? n->layers[n->layer_count - 1].ops : NULL;
    return ops == &CONV_LAYER || ops == &NORM_LAYER || ops == &SYNCED_NORM_LAYER ||
           ops == &LINEAR_LAYER;
}

// Plain f32 values, which a fully connected layer does not round before.
static void append_logits(struct cpu_network *n, const struct node *node)
{
    if (node->kind == NODE_LINEAR)
        n->layers[n->layer_count - 1].out.narrow = false;
    append_plain(n, node);
}

int cpu_layers_create(struct cpu_network *n)
{
    const struct graph *g = n->host.graph;
    int rc = RETORT_OK;
    // A node makes two layers at the most; one more flattens the end.
    n->layers = calloc((size_t)g->node_count * 2 + 1, sizeof(*n->layers));
    if (n->layers == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    for (int i = 1; i < g->node_count; i++) {
        const struct node *node = &g->nodes[i];
        TRY_ELSE(node->input == i - 1, RETORT_USAGE,
                 "device cpu runs chains of layers only; %s reads a layer further back",
                 node->name);
        if (node->kind == NODE_ACTIVATION && node->activation == ACTIVATION_RELU && fuses_relu(n))
            n->layers[n->layer_count - 1].relu = true;
        else
            TRY(append_node(n, node));
    }
    TRY_ELSE(n->layer_count > 0, RETORT_USAGE, "%s has no layers", g->arch);
    append_logits(n, &g->nodes[g->node_count - 1]);
fail:
    return rc;
}

static size_t layer_bytes(const struct cpu_network *n, const struct shape *s)
{
    return (size_t)n->host.max_batch * shape_elements(s) * element_bytes(s->narrow);
}

static size_t largest_output(const struct cpu_network *n)
{
    size_t largest = 0;
    for (int i = 0; i < n->layer_count; i++) {
        size_t bytes = layer_bytes(n, &n->layers[i].out);
        largest = bytes > largest ? bytes : largest;
    }
    return largest;
}

static bool reads_pictures(const struct cpu_network *n, int layer)
{
    return layer == 0 || (layer == 1 && n->layers[0].ops == &LAYOUT_LAYER);
}

// In training every output stays for backward, and gradients alternate between two buffers; else
// outputs do.
int cpu_layers_plan_memory(struct cpu_network *n)
{
    bool training = n->host.training;
    void *pair[2], *x = NULL;
    int rc = RETORT_OK, turn = 0;
    for (int i = 0; i < 2; i++)
        TRY(cpu_network_alloc(n, largest_output(n), &pair[i]));
    for (int i = 0; i < n->layer_count; i++) {
        struct layer *l = &n->layers[i];
        l->x = x;
        if (x != NULL && (l->ops->in_place_forward || (!training && l->ops->in_place_evaluate)))
            l->y = x;
        else if (training)
            TRY(cpu_network_alloc(n, layer_bytes(n, &l->out), &l->y));
        else
            l->y = pair[turn++ % 2];
        x = l->y;
    }
    void *dy = pair[0];
    for (int i = n->layer_count - 1; i >= 0 && training; i--) {
        struct layer *l = &n->layers[i];
        l->dy = dy;
        l->dx = reads_pictures(n, i) ? NULL : l->ops->in_place ? dy : pair[dy == pair[0]];
        dy = l->dx;
    }
fail:
    return rc;
}
