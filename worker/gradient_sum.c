#include "worker/gradient_sum.h"

#include "base/error.h"

enum { ALIGNED = 32 }; // elements, so that buckets begin on whole words of NCCL's, and lines

// Cuts a bucket where a parameter begins, or a few elements behind, as soon as it is large enough.
static void cut(struct gradient_sum *s, const struct graph *g)
{
    const size_t least = (g->total + GRADIENT_BUCKETS - 1) / GRADIENT_BUCKETS;
    s->cuts[0] = g->total;
    for (int i = g->param_count - 1; i >= 0; i--) {
        const size_t at = (g->params[i].offset + ALIGNED - 1) / ALIGNED * ALIGNED;
        if (at + least <= s->cuts[s->buckets])
            s->cuts[++s->buckets] = at;
    }
    if (s->cuts[s->buckets] > 0)
        s->cuts[++s->buckets] = 0;
}

struct gradient_sum gradient_sum_of(struct comm *c, const struct graph *g, void *gradients,
                                    enum real_type real, bool deterministic, bool sharded)
{
    struct gradient_sum s = {.comm = c,
                             .gradients = gradients,
                             .total = g->total,
                             .real = real,
                             .deterministic = deterministic,
                             .sharded = sharded};
    if (comm_overlaps(c) && !sharded)
        cut(&s, g);
    return s;
}

void gradient_sum_begin(struct gradient_sum *s)
{
    s->started = 0;
}

bool gradient_sum_due(const struct gradient_sum *s, size_t begin, size_t *from, size_t *to)
{
    if (s->started == s->buckets || begin > s->cuts[s->started + 1])
        return false;
    *from = s->cuts[s->started + 1];
    *to = s->cuts[s->started];
    return true;
}

int gradient_sum_ready(struct gradient_sum *s, size_t begin)
{
    size_t from, to;
    int rc = RETORT_OK;
    for (; gradient_sum_due(s, begin, &from, &to); s->started++)
        TRY(comm_allreduce_beside(s->comm, s->gradients + from * real_bytes(s->real), to - from,
                                  s->real, s->deterministic));
fail:
    return rc;
}

int gradient_sum_finish(struct gradient_sum *s)
{
    int rc = RETORT_OK;
    CHECK(s->started == s->buckets);
    if (s->buckets == 0)
        return (s->sharded ? comm_reduce_scatter_sum : comm_allreduce_sum)(
            s->comm, s->gradients, s->total, s->real, s->deterministic);
    TRY(comm_join(s->comm));
    comm_await(s->comm, "all-reduce", s->total * real_bytes(s->real)); // not of the last bucket
fail:
    return rc;
}
