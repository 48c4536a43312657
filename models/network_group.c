// Networks side by side, one a micro-batch.

#include <stdlib.h>

#include "base/error.h"
#include "models/engine_ops.h"

static void add(struct network_group *g, struct network *n)
{
    g->networks[g->count] = n;
    g->sums[g->count] = n->sums;
    g->count++;
}

int network_group_create(struct network_group **out, struct network *first, int count,
                         const struct batch_sum *whole)
{
    struct network_group *g = calloc(1, sizeof(*g));
    struct network *beside;
    int rc = RETORT_OK;
    CHECK(count > 0 && first->sums != NULL);
    *out = NULL;
    TRY_ELSE(g != NULL, RETORT_MEMORY, "no memory for %d micro-batches side by side", count);
    g->ops = first->ops;
    g->whole = *whole;
    g->networks = calloc((size_t)count, sizeof(struct network *));
    g->sums = calloc((size_t)count, sizeof(double *));
    TRY_ELSE(g->networks != NULL && g->sums != NULL, RETORT_MEMORY,
             "no memory for %d micro-batches side by side", count);
    add(g, first);
    while (g->count < count) {
        TRY(g->ops->network_beside(&beside, first));
        add(g, beside);
    }
    *out = g;
    return RETORT_OK;
fail:
    network_group_destroy(&g);
    return rc;
}

void network_group_destroy(struct network_group **p)
{
    struct network_group *g = *p;
    if (g == NULL)
        return;
    for (int k = 1; k < g->count; k++)
        g->ops->network_destroy(g->networks[k]);
    free(g->networks);
    free(g->sums);
    free(g);
    *p = NULL;
}

struct network *network_group_member(const struct network_group *g, int k)
{
    CHECK(k >= 0 && k < g->count);
    return g->networks[k];
}

size_t network_group_memory(const struct network_group *g)
{
    size_t bytes = 0;
    for (int k = 0; k < g->count; k++)
        bytes += g->ops->network_memory(g->networks[k]);
    return bytes;
}

int network_group_forward(struct network_group *g, const struct input *const *inputs)
{
    return g->ops->group_forward(g, inputs);
}

int network_group_backward(struct network_group *g, void *const *gradients,
                           const struct step_scalars *scalars,
                           const struct ready_callback *on_ready)
{
    return g->ops->group_backward(g, gradients, scalars, on_ready);
}
