// Whole arrays: conversion, sums, the update, the search for what is not finite.

#include <stdlib.h>

#include "models/cuda/cuda.h"
#include "models/cuda/kernels/add.h"
#include "models/cuda/kernels/finite.h"
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
    int rc = RETORT_OK;
    TRY_CUDA(add_launch(to, from, count, type, cuda_engine_of(e)->stream));
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

// The graph's pieces, made when it is asked for the first time.
static int pieces_for(struct cuda_engine *e, const struct graph *g)
{
    struct update_piece *host = NULL;
    int rc = RETORT_OK;
    if (e->pieces_of == g)
        return rc;
    size_t count = update_pieces(g, 0, g->total, NULL);
    host = calloc(count + 1, sizeof(*host));
    TRY_ELSE(host != NULL, RETORT_MEMORY, "no memory to update %s", g->arch);
    update_pieces(g, 0, g->total, host);
    if (e->pieces != NULL)
        TRY_CUDA(cudaFree(e->pieces));
    e->pieces = NULL;
    e->pieces_of = NULL;
    TRY(cuda_memory(e, (count + 1) * sizeof(*host), &e->pieces));
    TRY(e->base.ops->upload(&e->base, e->pieces, host, count * sizeof(*host)));
    e->pieces_of = g;
    e->piece_count = count;
fail:
    free(host);
    return rc;
}

int cuda_update(struct engine *base, const struct graph *g, const struct arenas *arenas,
                const struct optimizer_spec *spec, const struct step_scalars *scalars)
{
    struct cuda_engine *e = cuda_engine_of(base);
    int rc = RETORT_OK;
    CHECK(spec->kind == OPTIMIZER_SGD || arenas->moment2 != NULL);
    TRY(pieces_for(e, g));
    TRY_CUDA(update_launch(e->pieces, e->piece_count, arenas, spec, scalars, e->stream));
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
