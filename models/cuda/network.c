#include "models/cuda/network.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith/half.h"

// ---- memory

int cuda_network_alloc(struct cuda_network *n, size_t bytes, void *out)
{
    void **blocks = realloc(n->blocks, (size_t)(n->block_count + 1) * sizeof(*blocks));
    if (blocks == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", n->graph->arch);
    n->blocks = blocks;
    int rc = cuda_memory(n->engine, bytes, out);
    if (rc == RETORT_OK) {
        memcpy(&n->blocks[n->block_count++], out, sizeof(void *));
        n->memory_bytes += bytes;
    }
    return rc;
}

const float *cuda_weights(const struct cuda_network *n, int index)
{
    return index >= 0 ? n->first->arena + n->graph->params[index].offset : NULL;
}

float *cuda_gradients(const struct cuda_network *n, float *gradients, int index)
{
    return index >= 0 ? gradients + n->graph->params[index].offset : NULL;
}

struct columns cuda_columns(const struct cuda_network *n, const struct cuda_layer *l)
{
    const struct cuda_shape *s = l->pool > 0 ? &l->in : &l->out;
    int64_t area = (int64_t)s->height * s->width;
    return (struct columns){n->count * area, n->max_batch * area, s->channels};
}

struct pool cuda_pool(const struct cuda_network *n, const struct cuda_layer *l)
{
    return (struct pool){n->max_batch,  l->out.channels, l->in.height, l->in.width,
                         l->out.height, l->out.width,    l->pool};
}

// ---- life

static int shared_buffers(struct cuda_network *n)
{
    int most = 0, rc = RETORT_OK;
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].out.channels > most)
            most = n->layers[i].out.channels;
    size_t classes = (size_t)n->graph->classes, rows = (size_t)n->max_batch;
    TRY(cuda_network_alloc(n, rows * classes * sizeof(float), &n->logits));
    TRY(cuda_network_alloc(n, rows * sizeof(int64_t), &n->sample_id));
    TRY(cuda_network_alloc(n, sizeof(*n->teacher), &n->teacher));
    TRY(cuda_network_alloc(n, rows * LOSS_SUMS * sizeof(double), &n->row_sums));
    if (!n->training)
        return rc;
    TRY(cuda_network_alloc(n, column_partials(most) * sizeof(float), &n->partials));
    TRY(cuda_network_alloc(n, (2 * (size_t)most + 1) * sizeof(double), &n->base.sums));
    TRY(cuda_network_alloc(n, 2 * (size_t)most * sizeof(float), &n->gamma_beta));
fail:
    return rc;
}

static int network_fill(struct cuda_network *n, const char *plan)
{
    int rc = RETORT_OK;
    TRY(cuda_layers_create(n));
    TRY(cuda_products_create(n));
    TRY(shared_buffers(n));
    TRY(cuda_layers_plan_memory(n));
    if (n->first == n)
        TRY(cuda_plan_apply(n, plan));
fail:
    return rc;
}

int cuda_network_create(struct network **out, struct engine *e, const struct graph *g,
                        const struct network_options *options, struct network *weights_of)
{
    struct cuda_network *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return FAIL(RETORT_MEMORY, "no memory for %s", g->arch);
    n->base.ops = e->ops;
    n->engine = cuda_engine_of(e);
    n->graph = g;
    n->replays.what = g->arch;
    n->training = options->training;
    n->max_batch = options->max_batch;
    n->first = weights_of != NULL ? cuda_network_of(weights_of) : n;
    int rc = network_fill(n, options->plan);
    if (rc != RETORT_OK) {
        cuda_network_destroy(&n->base);
        return rc;
    }
    *out = &n->base;
    return RETORT_OK;
}

void cuda_network_destroy(struct network *base)
{
    struct cuda_network *n = cuda_network_of(base);
    cuda_replays_free(&n->replays);
    for (int i = 0; i < n->layer_count; i++)
        for (int d = 0; d < DIRECTIONS; d++)
            dnn_call_free(&n->layers[i].calls[d]);
    if (n->first == n)
        cuda_products_destroy(n);
    for (int i = 0; i < n->block_count; i++)
        (void)cudaFree(n->blocks[i]);
    free(n->blocks);
    free(n->layers);
    free(n);
}

size_t cuda_network_memory(const struct network *n)
{
    return cuda_network_of(n)->memory_bytes;
}

int cuda_network_set_weights(struct network *base, const void *arena)
{
    struct cuda_network *n = cuda_network_of(base);
    int rc = RETORT_OK;
    n->arena = arena;
    TRY_CUDA(pack_launch(n->packed, n->arena, n->filters, n->pieces, n->piece_count,
                         n->engine->type, n->engine->stream));
fail:
    return rc;
}

// ---- logits

void *cuda_network_logits(struct network *n)
{
    return cuda_network_of(n)->logits;
}

static int narrow_row(const struct cuda_network *n, int row, const float *values, uint16_t *out)
{
    int classes = n->graph->classes, fits = 1;
    for (int c = 0; c < classes; c++) {
        out[c] = half_from_double((double)values[c], &fits);
        if (!fits)
            return FAIL(RETORT_NUMERIC,
                        "logit %g of %s, row %d, class %d does not fit f16 (largest: 65504); the "
                        "network has diverged: lower its learning rate",
                        (double)values[c], n->graph->arch, row, c);
    }
    return RETORT_OK;
}

int cuda_network_logits_f16(struct network *base, uint16_t *out)
{
    struct cuda_network *n = cuda_network_of(base);
    size_t classes = (size_t)n->graph->classes, count = (size_t)n->count * classes;
    float *values = malloc((count + 1) * sizeof(*values));
    int rc = RETORT_OK;
    TRY_ELSE(values != NULL, RETORT_MEMORY, "no memory for the logits of %d pictures", n->count);
    TRY(base->ops->download(&n->engine->base, values, n->logits, count * sizeof(*values)));
    for (int row = 0; row < n->count; row++)
        TRY(narrow_row(n, row, values + (size_t)row * classes, out + (size_t)row * classes));
fail:
    free(values);
    return rc;
}
