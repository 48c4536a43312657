#include "worker/own_range.h"

#include "base/error.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool deterministic(const struct trainer *t)
{
    return t->rank->recipe.run.deterministic;
}

void own_range_init(struct trainer *t)
{
    const struct comm *c = t->rank->comm;
    t->sharded = t->recipe->optimizer.shard && comm_size(c) > 1;
    t->arenas.begin = 0;
    t->arenas.end = t->graph->total;
    if (t->sharded)
        comm_own_range(c, t->graph->total, deterministic(t), comm_rank(c), &t->arenas.begin,
                       &t->arenas.end);
}

struct own_range own_range_of(const struct trainer *t, size_t arena_count)
{
    const size_t begin = smaller(t->arenas.begin, arena_count);
    return (struct own_range){begin, smaller(t->arenas.end, arena_count) - begin};
}

int own_range_share(struct trainer *t)
{
    if (!t->sharded)
        return RETORT_OK;
    return comm_allgather_ranges(t->rank->comm, t->arenas.weights, t->graph->total,
                                 engine_real(t->rank->engine), deterministic(t));
}

int own_range_gather(struct trainer *t, const void **whole, const void *own, size_t arena_count)
{
    struct rank *rank = t->rank;
    const struct own_range range = own_range_of(t, arena_count);
    const enum real_type real = engine_real(rank->engine);
    char *to = t->arenas.gradients;
    int rc = RETORT_OK;
    *whole = own;
    if (!t->sharded)
        return rc;
    TRY(rank_agree(rank, engine_copy(rank->engine, to + range.begin * real_bytes(real), own,
                                     range.count * real_bytes(real))));
    TRY(comm_allgather_ranges(rank->comm, to, t->graph->total, real, deterministic(t)));
    TRY(comm_wait(rank->comm)); // before anyone copies it to the host
    *whole = to;
fail:
    return rc;
}
