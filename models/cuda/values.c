// Whole arrays: conversion, sums, the update, the search for what is not finite.

#include <stdlib.h>
#include <xxhash.h>

#include "models/cuda/cuda.h"
#include "models/cuda/kernels/add.h"
#include "models/cuda/kernels/finite.h"
#include "models/cuda/kernels/gather.h"
#include "models/cuda/kernels/loss_scale.h"
#include "models/cuda/kernels/update.h"

int cuda_from_f32(struct engine *e, void *to, const float *from, size_t count)
{
    return e->ops->upload(e, to, from, count * sizeof(float));
}

int cuda_to_f32(struct engine *e, float *to, const void *from, size_t count)
{
    return e->ops->download(e, to, from, count * sizeof(float));
}

int cuda_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type)
{
    return cuda_add_on(e, cuda_engine_of(e)->stream, to, from, count, type);
}

int cuda_add_on(struct engine *e, void *stream, void *to, const void *from, size_t count,
                enum real_type type)
{
    int rc = RETORT_OK;
    (void)e;
    TRY_CUDA(add_launch(to, from, count, type, stream));
fail:
    return rc;
}

int cuda_zero(struct engine *e, void *p, size_t bytes)
{
    int rc = RETORT_OK;
    if (bytes > 0)
        TRY_CUDA(cudaMemsetAsync(p, 0, bytes, cuda_engine_of(e)->stream));
fail:
    return rc;
}

int cuda_copy(struct engine *e, void *to, const void *from, size_t bytes)
{
    int rc = RETORT_OK;
    if (bytes > 0)
        TRY_CUDA(
            cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_engine_of(e)->stream));
fail:
    return rc;
}

int cuda_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                size_t row_bytes)
{
    int rc = RETORT_OK;
    TRY_CUDA(gather_launch(to, from, rows, count, row_bytes, cuda_engine_of(e)->stream));
fail:
    return rc;
}

// What the pieces follow from: of two graphs that are equal in it, and of none at the same address.
static uint64_t layout_of(const struct graph *g, size_t begin, size_t end)
{
    const uint64_t all[] = {g->trainable, begin, end};
    uint64_t layout = XXH3_64bits(all, sizeof(all));
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        const uint64_t facts[] = {layout, p->offset, p->count, p->decay};
        layout = XXH3_64bits(facts, sizeof(facts));
    }
    return layout;
}

static int fill_plan(struct cuda_engine *e, struct update_plan *plan, const struct graph *g,
                     size_t begin, size_t end)
{
    struct update_piece *host = NULL;
    int rc = RETORT_OK;
    plan->count = update_pieces(g, begin, end, NULL);
    host = calloc(plan->count + 1, sizeof(*host));
    TRY_ELSE(host != NULL, RETORT_MEMORY, "no memory to update %s", g->arch);
    update_pieces(g, begin, end, host);
    TRY(cuda_memory(e, (plan->count + 1) * sizeof(*host), &plan->pieces));
    TRY(e->base.ops->upload(&e->base, plan->pieces, host, plan->count * sizeof(*host)));
fail:
    free(host);
    return rc;
}

// The pieces of a range of the graph's arena, made when it is asked for the first time.
static int plan_for(struct update_plan **out, struct cuda_engine *e, const struct graph *g,
                    size_t begin, size_t end)
{
    uint64_t layout = layout_of(g, begin, end);
    int rc = RETORT_OK;
    for (*out = e->update_plans; *out != NULL; *out = (*out)->next)
        if ((*out)->layout == layout)
            return rc;
    struct update_plan *plan = calloc(1, sizeof(*plan));
    TRY_ELSE(plan != NULL, RETORT_MEMORY, "no memory to update %s", g->arch);
    plan->layout = layout;
    TRY(fill_plan(e, plan, g, begin, end));
    plan->next = e->update_plans;
    e->update_plans = *out = plan;
    return rc;
fail:
    if (plan != NULL)
        (void)cudaFree(plan->pieces);
    free(plan);
    return rc;
}

void cuda_update_plans_free(struct cuda_engine *e)
{
    while (e->update_plans != NULL) {
        struct update_plan *plan = e->update_plans;
        e->update_plans = plan->next;
        (void)cudaFree(plan->pieces);
        free(plan);
    }
}

int cuda_update(struct engine *base, const struct graph *g, const struct arenas *arenas,
                const struct optimizer_spec *spec, const struct step_scalars *scalars)
{
    struct cuda_engine *e = cuda_engine_of(base);
    struct update_plan *plan;
    int rc = RETORT_OK;
    CHECK(spec->kind == OPTIMIZER_SGD || arenas->moment2 != NULL);
    CHECK(arenas->begin <= arenas->end && arenas->end <= g->total);
    TRY(plan_for(&plan, e, g, arenas->begin, arenas->end));
    if (arenas->scale != NULL)
        TRY_CUDA(
            not_finite_launch(&arenas->scale->not_finite, arenas->gradients, g->total, e->stream));
    TRY_CUDA(update_launch(plan->pieces, plan->count, arenas, spec, scalars, e->stream));
    if (arenas->scale != NULL)
        TRY_CUDA(loss_scale_launch(arenas->scale, e->stream));
fail:
    return rc;
}

int cuda_all_finite(struct engine *base, const void *values, size_t count, bool *finite)
{
    struct cuda_engine *e = cuda_engine_of(base);
    int rc = RETORT_OK;
    TRY_CUDA(cudaMemsetAsync(&e->faults->not_finite, 0, sizeof(e->faults->not_finite), e->stream));
    TRY_CUDA(not_finite_launch(&e->faults->not_finite, values, count, e->stream));
    TRY(cuda_wait(e));
    *finite = e->faults_seen->not_finite == 0;
fail:
    return rc;
}
