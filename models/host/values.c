// Whole arrays of reals: conversion, sums, the search for what is not finite.

#include <math.h>

#include "base/arith/half.h"
#include "base/error.h"
#include "models/host/clones.h"
#include "models/host/host.h"

enum { GRAIN = 16384 }; // elements a thread should have before another is worth waking

struct values_job {
    void *to;
    const void *from;
    bool wide; // f64
};

HOST_CLONES static void add_f32(float *restrict to, const float *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

static void add_part(void *context, int part, size_t begin, size_t end)
{
    (void)part;
    const struct values_job *job = context;
    if (job->wide)
        for (size_t i = begin; i < end; i++)
            ((double *)job->to)[i] += ((const double *)job->from)[i];
    else
        add_f32((float *)job->to + begin, (const float *)job->from + begin, end - begin);
}

int host_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type)
{
    struct values_job job = {.to = to, .from = from, .wide = type == REAL_F64};
    host_parallel(host_engine_of(e)->threads, count, GRAIN, add_part, &job);
    return RETORT_OK;
}

int host_from_f32(struct engine *e, void *to, const float *from, size_t count)
{
    if (host_engine_of(e)->real == REAL_F32)
        return host_copy(e, to, from, count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        ((double *)to)[i] = (double)from[i];
    return RETORT_OK;
}

int host_to_f32(struct engine *e, float *to, const void *from, size_t count)
{
    if (host_engine_of(e)->real == REAL_F32)
        return host_copy(e, to, from, count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        to[i] = (float)((const double *)from)[i];
    return RETORT_OK;
}

// v * 0 is 0 for finite values only, and NaN stays NaN through sums: no branch in the loop.
HOST_CLONES static bool finite_f32(const float *values, size_t count)
{
    enum { LANES = 16 };
    float sums[LANES] = {0.0f};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += values[i + k] * 0.0f;
    for (; i < count; i++)
        sums[0] += values[i] * 0.0f;
    bool finite = true;
    for (size_t k = 0; k < LANES; k++)
        finite = finite && isfinite(sums[k]);
    return finite;
}

int host_all_finite(struct engine *e, const void *values, size_t count, bool *finite)
{
    if (host_engine_of(e)->real == REAL_F32) {
        *finite = finite_f32(values, count);
        return RETORT_OK;
    }
    *finite = true;
    for (size_t i = 0; i < count; i++)
        *finite = *finite && isfinite(((const double *)values)[i]);
    return RETORT_OK;
}

int host_network_logits_f16(struct network *n, uint16_t *out)
{
    const struct host_network *network = host_network_of(n);
    int classes = network->graph->classes, fits = 1;
    for (int row = 0; row < network->count; row++)
        for (int c = 0; c < classes; c++) {
            size_t i = (size_t)row * classes + c;
            double v = network->engine->real == REAL_F64
                           ? ((const double *)network->logits)[i]
                           : (double)((const float *)network->logits)[i];
            out[i] = half_from_double(v, &fits);
            if (!fits)
                return FAIL(RETORT_NUMERIC,
                            "logit %g of %s, row %d, class %d does not fit f16 (largest: 65504); "
                            "the network has diverged: lower its learning rate",
                            v, network->graph->arch, row, c);
        }
    return RETORT_OK;
}
