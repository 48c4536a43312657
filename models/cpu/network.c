#include "models/cpu/network.h"

#include <string.h>

#include "base/error.h"

// ---- memory

int cpu_network_alloc(struct cpu_network *n, size_t bytes, void *out)
{
    void **blocks = realloc(n->blocks, (size_t)(n->block_count + 1) * sizeof(*blocks));
    if (blocks != NULL)
        n->blocks = blocks;
    void *p = blocks != NULL ? host_calloc(bytes) : NULL;
    if (p == NULL)
        return FAIL(RETORT_MEMORY,
                    "no memory for %s with a batch of %d: %zu bytes more are needed; use more "
                    "micro-batches (run.microbatches)",
                    n->host.graph->arch, n->host.max_batch, bytes);
    n->blocks[n->block_count++] = p;
    n->memory_bytes += bytes;
    memcpy(out, &p, sizeof(p));
    return RETORT_OK;
}

void cpu_scratch_free(struct cpu_network *n, struct scratch *s)
{
    free(s->data);
    n->first->memory_bytes -= s->bytes;
    *s = (struct scratch){0};
}

int cpu_scratch_reserve(struct cpu_network *n, struct scratch *s, size_t bytes)
{
    if (bytes <= s->bytes)
        return RETORT_OK;
    cpu_scratch_free(n, s);
    s->data = host_calloc(bytes);
    if (s->data == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s: %zu bytes of workspace", n->host.graph->arch,
                    bytes);
    s->bytes = bytes;
    n->first->memory_bytes += bytes;
    return RETORT_OK;
}

int cpu_op_adopt(struct cpu_network *n, const struct dnn_op *op)
{
    return cpu_scratch_reserve(n, &n->first->scratchpad, dnn_op_bytes(op, DNNL_ARG_SCRATCHPAD));
}

int cpu_op_run(struct cpu_network *n, struct dnn_op *op)
{
    int rc = RETORT_OK;
    if (dnn_op_bytes(op, DNNL_ARG_SCRATCHPAD) > 0)
        TRY(dnn_op_bind(&n->engine->dnn, op, DNNL_ARG_SCRATCHPAD, n->first->scratchpad.data));
    TRY(dnn_op_run(&n->engine->dnn, op));
fail:
    return rc;
}

const struct param *cpu_param(const struct cpu_network *n, int index)
{
    return &n->host.graph->params[index];
}

const float *cpu_weights(const struct cpu_network *n, int index)
{
    return n->first->arena + cpu_param(n, index)->offset;
}

// ---- batch sizes

static int build_layers(struct cpu_network *n, struct kernels *kernels, int count)
{
    int rc = RETORT_OK;
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops->build != NULL)
            TRY(n->layers[i].ops->build(n, &n->layers[i], &kernels[i], count));
fail:
    return rc;
}

static void kernels_free(const struct cpu_network *n, struct kernels *kernels)
{
    for (int i = 0; i < n->layer_count; i++)
        for (int j = 0; j < LAYER_OPS; j++)
            dnn_op_free(&kernels[i].op[j]);
    free(kernels);
}

// The operations for `count` samples, made when this size turns up for the first time.
static int kernels_for(struct cpu_network *n, int count, struct kernels **out)
{
    int rc = RETORT_OK;
    for (int i = 0; i < n->size_count; i++)
        if (n->sizes[i].count == count) {
            *out = n->sizes[i].kernels;
            return RETORT_OK;
        }
    struct kernels *kernels = calloc((size_t)n->layer_count, sizeof(*kernels));
    struct batch_size *sizes = realloc(n->sizes, (size_t)(n->size_count + 1) * sizeof(*sizes));
    if (sizes != NULL)
        n->sizes = sizes;
    TRY_ELSE(kernels != NULL && sizes != NULL, RETORT_MEMORY, "no memory for %s",
             n->host.graph->arch);
    TRY(build_layers(n, kernels, count));
    n->sizes[n->size_count++] = (struct batch_size){count, kernels};
    *out = kernels;
    return RETORT_OK;
fail:
    if (kernels != NULL)
        kernels_free(n, kernels);
    return rc;
}

// ---- layer by layer

static int cpu_forward_begin(struct host_network *host, const struct host_input *in)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    CHECK(n->first->arena != NULL);
    n->pictures = in->values;
    return kernels_for(n, host->count, &n->kernels);
}

static int cpu_forward(struct host_network *host, int layer)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    struct layer *l = &n->layers[layer];
    return l->ops->forward(n, l, &n->kernels[layer]);
}

static int cpu_backward_begin(struct host_network *host, double share, void *gradients)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops->report_statistics != NULL)
            n->layers[i].ops->report_statistics(n, &n->layers[i], share, gradients);
    return RETORT_OK;
}

static int cpu_backward(struct host_network *host, int layer, void *gradients)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    struct layer *l = &n->layers[layer];
    return l->ops->backward(n, l, &n->kernels[layer], gradients);
}

static const struct param *cpu_layer_param(const struct host_network *host, int layer)
{
    const struct layer *l = &cpu_network_of(&host->base)->layers[layer];
    bool none = l->node->weight < 0 || l->ops == &LAYOUT_LAYER; // whose node is a neighbour's
    return none ? NULL : &host->graph->params[l->node->weight];
}

static size_t cpu_sums(struct host_network *host, int layer, enum host_pass pass, int stop,
                       double *sums)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    const struct layer_sync *sync = n->layers[layer].ops->sync[pass];
    return sync != NULL && stop == 0 ? sync->sums(n, &n->layers[layer], sums) : 0;
}

static void cpu_totals(struct host_network *host, int layer, enum host_pass pass, int stop,
                       const double *totals)
{
    struct cpu_network *n = cpu_network_of(&host->base);
    (void)stop;
    n->layers[layer].ops->sync[pass]->totals(n, &n->layers[layer], totals);
}

static const struct host_layers LAYERS = {.forward_begin = cpu_forward_begin,
                                          .forward = cpu_forward,
                                          .backward_begin = cpu_backward_begin,
                                          .backward = cpu_backward,
                                          .param = cpu_layer_param,
                                          .sums = cpu_sums,
                                          .totals = cpu_totals};

// ---- life

static int network_fill(struct cpu_network *n, const char *plan)
{
    struct kernels *first;
    int rc = RETORT_OK;
    TRY(cpu_layers_create(n));
    n->host.layer_count = n->layer_count;
    TRY(cpu_layers_plan_memory(n));
    if (n->host.training)
        TRY(cpu_network_alloc(n, host_sums_most(n->host.graph) * sizeof(double),
                              &n->host.base.sums));
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops->open != NULL)
            TRY(n->layers[i].ops->open(n, &n->layers[i]));
    if (n->first == n)
        TRY(cpu_plan_apply(n, plan));
    TRY(kernels_for(n, n->host.max_batch, &first));
    n->host.logits = n->layers[n->layer_count - 1].y;
    n->host.logit_gradients = n->layers[n->layer_count - 1].dy;
fail:
    return rc;
}

int cpu_network_create(struct network **out, struct engine *e, const struct graph *g,
                       const struct network_options *options, struct network *weights_of)
{
    struct cpu_network *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    n->host = (struct host_network){.base.ops = e->ops,
                                    .engine = host_engine_of(e),
                                    .layers = &LAYERS,
                                    .graph = g,
                                    .training = options->training,
                                    .max_batch = options->max_batch};
    n->engine = (struct cpu_engine *)e;
    n->first = weights_of != NULL ? cpu_network_of(weights_of) : n;
    int rc = network_fill(n, options->plan);
    if (rc != RETORT_OK) {
        cpu_network_destroy(&n->host.base);
        return rc;
    }
    *out = &n->host.base;
    return RETORT_OK;
}

void cpu_network_destroy(struct network *base)
{
    struct cpu_network *n = cpu_network_of(base);
    for (int i = 0; i < n->size_count; i++)
        kernels_free(n, n->sizes[i].kernels);
    for (int i = 0; i < n->layer_count && n->first == n; i++)
        if (n->layers[i].ops->close != NULL)
            n->layers[i].ops->close(&n->layers[i]);
    for (int i = 0; i < n->block_count; i++)
        free(n->blocks[i]);
    if (n->first == n) {
        cpu_scratch_free(n, &n->scratchpad);
        cpu_scratch_free(n, &n->staging);
        cpu_scratch_free(n, &n->plain);
    }
    free(n->blocks);
    free(n->sizes);
    free(n->layers);
    free(n);
}

size_t cpu_network_memory(const struct network *n)
{
    return cpu_network_of(n)->memory_bytes;
}

int cpu_network_set_weights(struct network *base, const void *arena)
{
    struct cpu_network *n = cpu_network_of(base);
    int rc = RETORT_OK;
    n->arena = arena;
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops->set_weights != NULL)
            TRY(n->layers[i].ops->set_weights(n, &n->layers[i]));
fail:
    return rc;
}
