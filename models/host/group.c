// One network, or a group of them side by side, led through its layers.
//
// All networks have come to a layer before any goes through it: what a synchronised layer sums over
// the whole batch is then there. A network alone is a group of one, whose sums are the totals.

#include <string.h>

#include "base/error.h"
#include "models/host/host.h"

static struct host_network *member(const struct network_group *g, int k)
{
    return host_network_of(g->networks[k]);
}

// ---- layer by layer

// Brings the sums of a synchronised layer over the whole batch to all networks.
static int synchronise(const struct network_group *g, int layer, enum host_pass pass)
{
    const struct host_layers *layers = member(g, 0)->layers;
    int rc = RETORT_OK;
    for (int stop = 0;; stop++) {
        size_t count = 0;
        for (int k = 0; k < g->count; k++)
            count = layers->sums(member(g, k), layer, pass, stop, g->sums[k]);
        if (count == 0)
            break;
        if (g->whole.sum != NULL)
            TRY(g->whole.sum(g->whole.context, g->sums, g->count, count));
        for (int k = 0; k < g->count; k++)
            layers->totals(member(g, k), layer, pass, stop, g->sums[0]);
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

static int group_forward(const struct network_group *g, const struct input *const *inputs,
                         enum forward_mode mode)
{
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++)
        TRY(forward_begin(member(g, k), inputs[k], mode));
    for (int layer = 0; layer < member(g, 0)->layer_count; layer++) {
        if (mode == FORWARD_TRAIN)
            TRY(synchronise(g, layer, HOST_FORWARD));
        for (int k = 0; k < g->count; k++)
            if (member(g, k)->count > 0)
                TRY(member(g, k)->layers->forward(member(g, k), layer));
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
static int backward_layer(const struct network_group *g, int layer, void *const *gradients,
                          size_t begin, size_t end, const struct ready_callback *on_ready)
{
    int rc = RETORT_OK;
    TRY(synchronise(g, layer, HOST_BACKWARD));
    for (int k = 0; k < g->count; k++) {
        struct host_network *n = member(g, k);
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
static int group_backward(const struct network_group *g, void *const *gradients,
                          const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    const struct host_network *first = member(g, 0);
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++)
        TRY(backward_begin(member(g, k), k, gradients[k], scalars, on_ready));
    size_t ready = member(g, 0)->graph->trainable;
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
    const struct network_group alone = {.networks = &base, .sums = &base->sums, .count = 1};
    return group_forward(&alone, &in, mode);
}

int host_network_backward(struct network *base, void *gradients, const struct step_scalars *scalars,
                          const struct ready_callback *on_ready)
{
    const struct network_group alone = {.networks = &base, .sums = &base->sums, .count = 1};
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

int host_network_beside(struct network **out, struct network *first)
{
    const struct host_network *n = host_network_of(first);
    const struct network_options options = {.max_batch = n->max_batch, .training = true};
    return first->ops->network_create(out, &n->engine->base, n->graph, &options, first);
}

int host_group_forward(struct network_group *g, const struct input *const *inputs)
{
    return group_forward(g, inputs, FORWARD_TRAIN);
}

int host_group_backward(struct network_group *g, void *const *gradients,
                        const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    return group_backward(g, gradients, scalars, on_ready);
}
