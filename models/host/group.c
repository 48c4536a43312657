// One network, or a group of them side by side, led through its layers.
//
// All networks have come to a layer before any goes through it: what a synchronised layer sums over
// the whole batch is then there. A network alone is a group of one, whose sums are the totals.

#include <string.h>

#include "base/error.h"
#include "models/host/host.h"

struct host_group {
    struct network_group base;
    struct host_network **networks; // owned, [count]; of them the first is borrowed
    double **sums;                  // owned, [count]: the networks' own
    int count;
    struct batch_sum whole; // sum NULL: this is the whole batch
};

static struct host_group *group_of(const struct network_group *g)
{
    return (struct host_group *)(uintptr_t)g;
}

static const struct graph *graph_of(const struct host_group *g)
{
    return g->networks[0]->graph;
}

// ---- layer by layer

// Brings the sums of a synchronised layer over the whole batch to all networks.
static int synchronise(const struct host_group *g, int layer, enum host_pass pass)
{
    const struct host_layers *layers = g->networks[0]->layers;
    int rc = RETORT_OK;
    for (int stop = 0;; stop++) {
        size_t count = 0;
        for (int k = 0; k < g->count; k++)
            count = layers->sums(g->networks[k], layer, pass, stop, g->sums[k]);
        if (count == 0)
            break;
        if (g->whole.sum != NULL)
            TRY(g->whole.sum(g->whole.context, g->sums, g->count, count));
        for (int k = 0; k < g->count; k++)
            layers->totals(g->networks[k], layer, pass, stop, g->sums[0]);
    }
fail:
    return rc;
}

// Checks that the input fits the network and sets what every forward begins with.
static int forward_begin(struct host_network *n, const struct input *in, enum forward_mode mode)
{
    const struct host_input *pictures = host_input_of(in);
    const struct node *first = &n->graph->nodes[0];
    if (first->channels != 3 || first->height != pictures->format.height ||
        first->width != pictures->format.width)
        return FAIL(RETORT_FAILED, "%s takes pictures of %d x %d x %d and was given 3 x %d x %d",
                    n->graph->arch, first->channels, first->height, first->width,
                    pictures->format.height, pictures->format.width);
    if (pictures->count > n->max_batch)
        return FAIL(RETORT_FAILED, "%s takes at most %d samples and was given %d", n->graph->arch,
                    n->max_batch, pictures->count);
    CHECK(mode == FORWARD_EVAL || n->training);
    n->count = pictures->count;
    n->mode = mode;
    n->has_loss = false;
    return n->count > 0 ? n->layers->forward_begin(n, pictures) : RETORT_OK;
}

static int group_forward(const struct host_group *g, const struct input *const *inputs,
                         enum forward_mode mode)
{
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++)
        TRY(forward_begin(g->networks[k], inputs[k], mode));
    for (int layer = 0; layer < g->networks[0]->layer_count; layer++) {
        if (mode == FORWARD_TRAIN)
            TRY(synchronise(g, layer, HOST_FORWARD));
        for (int k = 0; k < g->count; k++)
            if (g->networks[k]->count > 0)
                TRY(g->networks[k]->layers->forward(g->networks[k], layer));
    }
fail:
    return rc;
}

static int report_ready(const struct ready_callback *on_ready, int microbatch, size_t begin,
                        size_t end)
{
    return on_ready != NULL && end > begin
               ? on_ready->ready(on_ready->context, microbatch, begin, end)
               : RETORT_OK;
}

static void zero_range(const struct host_network *n, void *gradients, size_t begin, size_t end)
{
    size_t real = real_bytes(n->engine->real);
    memset((char *)gradients + begin * real, 0, (end - begin) * real);
}

// The statistics are known at once.
static int backward_begin(struct host_network *n, int k, void *gradients,
                          const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    const struct graph *g = n->graph;
    int rc = RETORT_OK;
    if (!n->training || n->mode != FORWARD_TRAIN || !n->has_loss)
        return FAIL(RETORT_FAILED, "%s: backward needs a training forward and a loss before it",
                    g->arch);
    if (n->count > 0)
        TRY(n->layers->backward_begin(n, n->count * scalars->inverse_batch, gradients));
    else
        zero_range(n, gradients, g->trainable, g->total);
    TRY(report_ready(on_ready, k, g->trainable, g->total));
fail:
    return rc;
}

// The layer's parameters are [begin, end).
static int backward_layer(const struct host_group *g, int layer, void *const *gradients,
                          size_t begin, size_t end, const struct ready_callback *on_ready)
{
    int rc = RETORT_OK;
    TRY(synchronise(g, layer, HOST_BACKWARD));
    for (int k = 0; k < g->count; k++) {
        struct host_network *n = g->networks[k];
        if (n->count > 0)
            TRY(n->layers->backward(n, layer, gradients[k]));
        else
            zero_range(n, gradients[k], begin, end);
        TRY(report_ready(on_ready, k, begin, end));
    }
fail:
    return rc;
}

// Parameters lie in layer order, so what is ready grows downwards.
static int group_backward(const struct host_group *g, void *const *gradients,
                          const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    const struct host_network *first = g->networks[0];
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++)
        TRY(backward_begin(g->networks[k], k, gradients[k], scalars, on_ready));
    size_t ready = graph_of(g)->trainable;
    for (int layer = first->layer_count - 1; layer >= 0; layer--) {
        const struct param *param = first->layers->param(first, layer);
        size_t begin = param != NULL ? param->offset : ready;
        TRY(backward_layer(g, layer, gradients, begin, ready, on_ready));
        ready = begin;
    }
fail:
    return rc;
}

// ---- one network

int host_network_forward(struct network *base, const struct input *in, enum forward_mode mode)
{
    struct host_network *n = host_network_of(base);
    struct host_group alone = {.networks = &n, .sums = &n->sums, .count = 1};
    return group_forward(&alone, &in, mode);
}

int host_network_backward(struct network *base, void *gradients, const struct step_scalars *scalars,
                          const struct ready_callback *on_ready)
{
    struct host_network *n = host_network_of(base);
    struct host_group alone = {.networks = &n, .sums = &n->sums, .count = 1};
    return group_backward(&alone, &gradients, scalars, on_ready);
}

size_t host_sums_most(const struct graph *g)
{
    size_t most = 0;
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].kind == NODE_BATCHNORM && (size_t)g->nodes[i].channels > most)
            most = (size_t)g->nodes[i].channels;
    return 2 * most + 1;
}

// ---- several

static int add_member(struct host_group *g)
{
    struct host_network *first = g->networks[0];
    struct network_options options = {.max_batch = first->max_batch, .training = true};
    struct network *n;
    int rc = RETORT_OK;
    TRY(g->base.ops->network_create(&n, &first->engine->base, first->graph, &options,
                                    &first->base));
    g->networks[g->count] = host_network_of(n);
    g->sums[g->count] = host_network_of(n)->sums;
    g->count++;
fail:
    return rc;
}

int host_group_create(struct network_group **out, struct network *first, int count,
                      const struct batch_sum *whole)
{
    int rc = RETORT_OK;
    struct host_group *g = calloc(1, sizeof(*g));
    CHECK(count > 0 && host_network_of(first)->training);
    TRY_ELSE(g != NULL, RETORT_MEMORY, "no memory for %d micro-batches side by side", count);
    g->base.ops = first->ops;
    g->whole = *whole;
    g->networks = calloc((size_t)count, sizeof(struct host_network *));
    g->sums = calloc((size_t)count, sizeof(double *));
    TRY_ELSE(g->networks != NULL && g->sums != NULL, RETORT_MEMORY,
             "no memory for %d micro-batches side by side", count);
    g->networks[0] = host_network_of(first);
    g->sums[0] = g->networks[0]->sums;
    g->count = 1;
    while (g->count < count)
        TRY(add_member(g));
    *out = &g->base;
    return RETORT_OK;
fail:
    if (g != NULL)
        host_group_destroy(&g->base);
    return rc;
}

void host_group_destroy(struct network_group *base)
{
    struct host_group *g = group_of(base);
    for (int k = 1; k < g->count; k++)
        base->ops->network_destroy(&g->networks[k]->base);
    free(g->networks);
    free(g->sums);
    free(g);
}

struct network *host_group_member(const struct network_group *base, int k)
{
    const struct host_group *g = group_of(base);
    CHECK(k >= 0 && k < g->count);
    return &g->networks[k]->base;
}

size_t host_group_memory(const struct network_group *base)
{
    const struct host_group *g = group_of(base);
    size_t bytes = 0;
    for (int k = 0; k < g->count; k++)
        bytes += base->ops->network_memory(&g->networks[k]->base);
    return bytes;
}

int host_group_forward(struct network_group *base, const struct input *const *inputs)
{
    return group_forward(group_of(base), inputs, FORWARD_TRAIN);
}

int host_group_backward(struct network_group *base, void *const *gradients,
                        const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    return group_backward(group_of(base), gradients, scalars, on_ready);
}
