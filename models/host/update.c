#include "base/arith/optimizer.h"

#include "base/error.h"
#include "models/host/clones.h"
#include "models/host/host.h"

enum {
    BLOCK = 2048, // elements updated and averaged while they are in the first cache
    GRAIN = 8 * BLOCK,
};

// One step of `count` elements that share their treatment, in the arena's type.
struct step_f32 {
    float lr, mu, wd, gain1, gain2, bias1, bias2, epsilon, ema_decay, running;
};
struct step_f64 {
    double lr, mu, wd, gain1, gain2, bias1, bias2, epsilon, ema_decay, running;
};

#define UPDATE_KERNELS(real, suffix)                                                               \
    HOST_CLONES static void sgd_##suffix(real *restrict w, const real *restrict g,                 \
                                         real *restrict m, size_t count,                           \
                                         const struct step_##suffix *s)                            \
    {                                                                                              \
        real lr = s->lr, mu = s->mu, wd = s->wd;                                                   \
        for (size_t i = 0; i < count; i++)                                                         \
            w[i] = sgd_step_##suffix(w[i], g[i], &m[i], lr, mu, wd, 0);                            \
    }                                                                                              \
    HOST_CLONES static void nesterov_##suffix(real *restrict w, const real *restrict g,            \
                                              real *restrict m, size_t count,                      \
                                              const struct step_##suffix *s)                       \
    {                                                                                              \
        real lr = s->lr, mu = s->mu, wd = s->wd;                                                   \
        for (size_t i = 0; i < count; i++)                                                         \
            w[i] = sgd_step_##suffix(w[i], g[i], &m[i], lr, mu, wd, 1);                            \
    }                                                                                              \
    HOST_CLONES static void adamw_##suffix(real *restrict w, const real *restrict g,               \
                                           real *restrict m, real *restrict v, size_t count,       \
                                           const struct step_##suffix *s)                          \
    {                                                                                              \
        struct step_##suffix t = *s;                                                               \
        for (size_t i = 0; i < count; i++)                                                         \
            w[i] = adamw_step_##suffix(w[i], g[i], &m[i], &v[i], t.lr, t.gain1, t.gain2, t.wd,     \
                                       t.bias1, t.bias2, t.epsilon);                               \
    }                                                                                              \
    HOST_CLONES static void ema_##suffix(real *restrict e, const real *restrict w, size_t count,   \
                                         real decay)                                               \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            e[i] = ema_step_##suffix(e[i], w[i], decay);                                           \
    }                                                                                              \
    HOST_CLONES static void running_##suffix(real *restrict w, const real *restrict g,             \
                                             size_t count, real momentum)                          \
    {                                                                                              \
        for (size_t i = 0; i < count; i++)                                                         \
            w[i] = running_step_##suffix(w[i], g[i], momentum);                                    \
    }                                                                                              \
    static struct step_##suffix step_make_##suffix(const struct optimizer_spec *o,                 \
                                                   const struct step_scalars *s, bool decay)       \
    {                                                                                              \
        return (struct step_##suffix){.lr = (real)s->lr,                                           \
                                      .mu = (real)o->momentum,                                     \
                                      .wd = decay ? (real)o->weight_decay : (real)0,               \
                                      .gain1 = (real)(1.0 - o->beta1),                             \
                                      .gain2 = (real)(1.0 - o->beta2),                             \
                                      .bias1 = (real)s->bias1,                                     \
                                      .bias2 = (real)s->bias2,                                     \
                                      .epsilon = (real)o->epsilon,                                 \
                                      .ema_decay = (real)s->ema_decay,                             \
                                      .running = (real)OPTIMIZER_RUNNING_MOMENTUM};                \
    }                                                                                              \
    /* Parameters [begin, begin + count) by the optimizer, or statistics by their momentum. */     \
    static void block_##suffix(const struct arenas *a, const struct optimizer_spec *o,             \
                               const struct step_##suffix *s, bool statistics, size_t begin,       \
                               size_t count)                                                       \
    {                                                                                              \
        real *w = (real *)a->weights + begin;                                                      \
        const real *g = (const real *)a->gradients + begin;                                        \
        size_t own = begin - a->begin;                                                             \
        if (statistics)                                                                            \
            running_##suffix(w, g, count, s->running);                                             \
        else if (o->kind == OPTIMIZER_ADAMW)                                                       \
            adamw_##suffix(w, g, (real *)a->moment1 + own, (real *)a->moment2 + own, count, s);    \
        else if (o->nesterov)                                                                      \
            nesterov_##suffix(w, g, (real *)a->moment1 + own, count, s);                           \
        else                                                                                       \
            sgd_##suffix(w, g, (real *)a->moment1 + own, count, s);                                \
        if (a->ema != NULL)                                                                        \
            ema_##suffix((real *)a->ema + own, w, count, s->ema_decay);                            \
    }                                                                                              \
    static void range_##suffix(const struct arenas *a, const struct optimizer_spec *o,             \
                               const struct step_scalars *scalars, bool statistics, bool decay,    \
                               size_t begin, size_t end)                                           \
    {                                                                                              \
        struct step_##suffix s = step_make_##suffix(o, scalars, decay);                            \
        for (; begin < end; begin += BLOCK)                                                        \
            block_##suffix(a, o, &s, statistics, begin,                                            \
                           end - begin < BLOCK ? end - begin : BLOCK);                             \
    }

UPDATE_KERNELS(float, f32)
UPDATE_KERNELS(double, f64)

struct update_job {
    const struct graph *graph;
    const struct arenas *arenas;
    const struct optimizer_spec *spec;
    const struct step_scalars *scalars;
    bool wide;
};

static size_t later(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t sooner(size_t a, size_t b)
{
    return a < b ? a : b;
}

// [begin, end) of the range: what each parameter has there.
static void update_part(void *context, int part, size_t begin, size_t end)
{
    (void)part;
    const struct update_job *job = context;
    begin += job->arenas->begin;
    end += job->arenas->begin;
    for (int i = 0; i < job->graph->param_count; i++) {
        const struct param *p = &job->graph->params[i];
        size_t from = later(begin, p->offset), to = sooner(end, p->offset + p->count);
        bool statistics = p->offset >= job->graph->trainable;
        if (from >= to)
            continue;
        if (job->wide)
            range_f64(job->arenas, job->spec, job->scalars, statistics, p->decay, from, to);
        else
            range_f32(job->arenas, job->spec, job->scalars, statistics, p->decay, from, to);
    }
}

int host_update(struct engine *e, const struct graph *g, const struct arenas *arenas,
                const struct optimizer_spec *spec, const struct step_scalars *scalars)
{
    const struct host_engine *host = host_engine_of(e);
    CHECK(spec->kind == OPTIMIZER_SGD || arenas->moment2 != NULL);
    CHECK(arenas->begin <= arenas->end && arenas->end <= g->total);
    struct update_job job = {.graph = g,
                             .arenas = arenas,
                             .spec = spec,
                             .scalars = scalars,
                             .wide = host->real == REAL_F64};
    host_parallel(host->threads, arenas->end - arenas->begin, GRAIN, update_part, &job);
    return RETORT_OK;
}
