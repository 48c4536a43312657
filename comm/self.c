// One process: every collective is a copy at most.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "comm/comm_ops.h"

static void self_destroy(struct comm *c)
{
    free(c);
}

static void self_abort(struct comm *c, int code)
{
    (void)c;
    _exit(code);
}

static int self_allreduce_max(struct comm *c, int *value)
{
    (void)c, (void)value;
    return RETORT_OK;
}

static int self_barrier(struct comm *c)
{
    (void)c;
    return RETORT_OK;
}

static int self_broadcast(struct comm *c, void *data, size_t bytes, int root)
{
    (void)c, (void)data, (void)bytes, (void)root;
    return RETORT_OK;
}

static int self_allgather(struct comm *c, const void *mine, size_t bytes, void *all)
{
    (void)c;
    if (bytes > 0)
        memmove(all, mine, bytes);
    return RETORT_OK;
}

static int self_gatherv(struct comm *c, const void *mine, size_t bytes, void *all,
                        const size_t *counts, const size_t *offsets, int root)
{
    (void)c, (void)counts, (void)root;
    if (bytes > 0)
        memmove((char *)all + offsets[0], mine, bytes);
    return RETORT_OK;
}

static int self_allreduce(struct comm *c, void *data, size_t count, enum real_type type)
{
    (void)c, (void)data, (void)count, (void)type;
    return RETORT_OK;
}

static int self_allgather_ranges(struct comm *c, void *data, size_t count, enum real_type type,
                                 bool deterministic)
{
    (void)deterministic;
    return self_allreduce(c, data, count, type);
}

static int self_exchange_start(struct comm *c, const void *send, struct exchange_block to,
                               void *recv, struct exchange_block from)
{
    exchange_copy_own(c->rank, send, to, recv, from);
    return RETORT_OK;
}

static int self_exchange_test(struct comm *c, bool *done)
{
    (void)c;
    *done = true;
    return RETORT_OK;
}

static const struct comm_ops self_ops = {
    .destroy = self_destroy,
    .abort = self_abort,
    .allreduce_max = self_allreduce_max,
    .barrier = self_barrier,
    .broadcast = self_broadcast,
    .allgather = self_allgather,
    .gatherv = self_gatherv,
    .allreduce_sum = self_allreduce,
    .allreduce_tree = self_allreduce,
    .reduce_scatter_sum = self_allreduce,
    .reduce_scatter_tree = self_allreduce,
    .allgather_ranges = self_allgather_ranges,
    .exchange_start = self_exchange_start,
    .exchange_test = self_exchange_test,
    .exchange_wait = self_barrier,
};

int comm_self_create(struct comm **out)
{
    *out = NULL;
    struct comm *c = calloc(1, sizeof *c);
    if (!c)
        return FAIL(RETORT_MEMORY, "no memory for a communicator");
    c->ops = &self_ops;
    c->size = 1;
    c->local_size = 1;
    if (gethostname(c->host, sizeof c->host - 1) != 0)
        memcpy(c->host, "localhost", sizeof "localhost");
    *out = c;
    return RETORT_OK;
}
