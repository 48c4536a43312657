// One network, or a group of them side by side, led through its layers.
//
// All networks have come to a synchronised layer before any goes through it. A network alone is
// captured and replayed whole; a group, and a backward that reports, run plainly, for what others
// queue is part of them.

#include "models/cuda/network.h"

static struct cuda_network *member(const struct network_group *g, int k)
{
    return cuda_network_of(g->networks[k]);
}

// ---- forward

// Checks that the input fits the network and sets what every forward begins with.
static int forward_begin(struct cuda_network *n, const struct input *in, enum forward_mode mode,
                         bool grouped)
{
    const struct cuda_input *pictures = cuda_input_of(in);
    const struct node *first = &n->graph->nodes[0];
    if (first->channels != 3 || first->height != pictures->format.height ||
        first->width != pictures->format.width)
        return FAIL(RETORT_FAILED, "%s takes pictures of %d x %d x %d and was given 3 x %d x %d",
                    n->graph->arch, first->channels, first->height, first->width,
                    pictures->format.height, pictures->format.width);
    if (pictures->count > n->max_batch || pictures->max_count < n->max_batch)
        return FAIL(RETORT_FAILED,
                    "%s takes at most %d samples, from a batch with room for as many, and was "
                    "given %d of %d",
                    n->graph->arch, n->max_batch, pictures->count, pictures->max_count);
    CHECK(mode == FORWARD_EVAL || n->training);
    CHECK(n->first->arena != NULL);
    n->input = pictures;
    n->count = pictures->count;
    n->mode = mode;
    n->grouped = grouped;
    n->has_loss = false;
    return RETORT_OK;
}

static uint64_t word(const void *address)
{
    return (uintptr_t)address;
}

static int run_forward(void *context)
{
    struct cuda_network *n = context;
    int rc = RETORT_OK;
    for (int i = 0; i < n->layer_count; i++)
        TRY(n->layers[i].ops->forward(n, &n->layers[i]));
fail:
    return rc;
}

int cuda_network_forward(struct network *base, const struct input *in, enum forward_mode mode)
{
    struct cuda_network *n = cuda_network_of(base);
    int rc = RETORT_OK;
    TRY(forward_begin(n, in, mode, false));
    const struct record_key key = {
        {CUDA_FORWARD, n->count, word(n->input->values), word(n->first->arena), mode}};
    const struct record_work work = {.queue = run_forward, .context = n};
    if (n->count > 0)
        TRY(cuda_replay(n->engine, &n->replays, &key, &work));
fail:
    return rc;
}

// ---- backward

static int report_ready(const struct ready_callback *on_ready, int microbatch, size_t begin,
                        size_t end)
{
    return on_ready != NULL && end > begin
               ? on_ready->ready(on_ready->context, microbatch, begin, end)
               : RETORT_OK;
}

static int zero_range(const struct cuda_network *n, float *gradients, size_t begin, size_t end)
{
    return n->base.ops->zero(&n->engine->base, gradients + begin, (end - begin) * sizeof(float));
}

struct backward {
    struct cuda_network *n;
    float *gradients;
    const struct step_scalars *scalars;
    const struct ready_callback *on_ready; // of a network alone; may be NULL
};

static int check_backward(const struct cuda_network *n)
{
    if (!n->training || n->mode != FORWARD_TRAIN || !n->has_loss)
        return FAIL(RETORT_FAILED, "%s: backward needs a training forward and a loss before it",
                    n->graph->arch);
    return RETORT_OK;
}

// The statistics' range of the gradients.
static int report_statistics(struct cuda_network *n, const struct backward *b)
{
    int rc = RETORT_OK;
    if (n->count == 0)
        return zero_range(n, b->gradients, n->graph->trainable, n->graph->total);
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops == &CUDA_NORM_LAYER)
            TRY(cuda_norm_report(n, &n->layers[i], b->scalars, b->gradients));
fail:
    return rc;
}

// Where the layer's parameters begin; `ready` when it has none: they are in layer order.
static size_t layer_begin(const struct cuda_network *n, int layer, size_t ready)
{
    int weight = n->layers[layer].node->weight;
    return weight >= 0 ? n->graph->params[weight].offset : ready;
}

// What is ready is told as soon as it is queued: what follows it then runs beside what comes here.
static int run_backward(void *context)
{
    const struct backward *b = context;
    struct cuda_network *n = b->n;
    size_t ready = n->graph->trainable;
    int rc = RETORT_OK;
    TRY(report_statistics(n, b));
    TRY(report_ready(b->on_ready, 0, ready, n->graph->total));
    for (int i = n->layer_count - 1; i >= 0; i--) {
        size_t begin = layer_begin(n, i, ready);
        TRY(n->layers[i].ops->backward(n, &n->layers[i], b->gradients));
        TRY(report_ready(b->on_ready, 0, begin, ready));
        ready = begin;
    }
fail:
    return rc;
}

static int zero_backward(const struct backward *b)
{
    const size_t total = b->n->graph->total;
    int rc = RETORT_OK;
    TRY(zero_range(b->n, b->gradients, 0, total));
    TRY(report_ready(b->on_ready, 0, 0, total));
fail:
    return rc;
}

int cuda_network_backward(struct network *base, void *gradients, const struct step_scalars *scalars,
                          const struct ready_callback *on_ready)
{
    struct cuda_network *n = cuda_network_of(base);
    struct backward b = {n, gradients, scalars, on_ready};
    int rc = RETORT_OK;
    TRY(check_backward(n));
    if (n->count == 0)
        return zero_backward(&b);
    if (on_ready != NULL)
        return run_backward(&b);
    const struct record_key key = {{CUDA_BACKWARD, n->count, word(n->input->values),
                                    word(n->first->arena), word(gradients), word(scalars)}};
    const struct record_work work = {.queue = run_backward, .context = &b};
    TRY(cuda_replay(n->engine, &n->replays, &key, &work));
fail:
    return rc;
}

// ---- a group

// Brings the sums of a synchronised layer over the whole batch to all networks.
static int synchronise(const struct network_group *g, int layer, enum cuda_pass pass)
{
    size_t count = 0;
    int rc = RETORT_OK;
    const struct node *node = member(g, 0)->layers[layer].node;
    if (node->kind != NODE_BATCHNORM || !node->synced)
        return rc;
    for (int k = 0; k < g->count; k++)
        TRY(cuda_norm_sums(member(g, k), &member(g, k)->layers[layer], pass, &count));
    TRY(g->whole.sum(g->whole.context, g->sums, g->count, count));
    for (int k = 0; k < g->count; k++)
        TRY(cuda_norm_totals(member(g, k), &member(g, k)->layers[layer], pass, g->sums[0]));
fail:
    return rc;
}

int cuda_group_forward(struct network_group *g, const struct input *const *inputs)
{
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++)
        TRY(forward_begin(member(g, k), inputs[k], FORWARD_TRAIN, true));
    for (int i = 0; i < member(g, 0)->layer_count; i++) {
        TRY(synchronise(g, i, CUDA_FORWARD));
        for (int k = 0; k < g->count; k++) {
            struct cuda_network *n = member(g, k);
            if (n->count > 0)
                TRY(n->layers[i].ops->forward(n, &n->layers[i]));
        }
    }
fail:
    return rc;
}

// The layer's parameters are [begin, end).
static int backward_layer(const struct network_group *g, int layer, void *const *gradients,
                          size_t begin, size_t end, const struct ready_callback *on_ready)
{
    int rc = RETORT_OK;
    TRY(synchronise(g, layer, CUDA_BACKWARD));
    for (int k = 0; k < g->count; k++) {
        struct cuda_network *n = member(g, k);
        if (n->count > 0)
            TRY(n->layers[layer].ops->backward(n, &n->layers[layer], gradients[k]));
        else if (end > begin)
            TRY(zero_range(n, gradients[k], begin, end));
        TRY(report_ready(on_ready, k, begin, end));
    }
fail:
    return rc;
}

int cuda_group_backward(struct network_group *g, void *const *gradients,
                        const struct step_scalars *scalars, const struct ready_callback *on_ready)
{
    const struct graph *graph = member(g, 0)->graph;
    size_t ready = graph->trainable;
    int rc = RETORT_OK;
    for (int k = 0; k < g->count; k++) {
        struct backward b = {member(g, k), gradients[k], scalars, NULL};
        TRY(check_backward(member(g, k)));
        TRY(report_statistics(member(g, k), &b));
        TRY(report_ready(on_ready, k, ready, graph->total));
    }
    for (int i = member(g, 0)->layer_count - 1; i >= 0; i--) {
        size_t begin = layer_begin(member(g, 0), i, ready);
        TRY(backward_layer(g, i, gradients, begin, ready, on_ready));
        ready = begin;
    }
fail:
    return rc;
}

int cuda_network_beside(struct network **out, struct network *first)
{
    const struct cuda_network *n = cuda_network_of(first);
    const struct network_options options = {.max_batch = n->max_batch, .training = true};
    return cuda_network_create(out, &n->engine->base, n->graph, &options, first);
}
