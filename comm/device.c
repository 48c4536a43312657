// Collectives on the engine's memory: a device's where one is attached, else the transport's own.

#include "comm/device.h"

#include <stdio.h>

#include "base/error.h"
#include "comm/comm_ops.h"
#include "comm/watchdog.h"

void device_comm_destroy(struct device_comm **p)
{
    if (*p)
        (*p)->ops->destroy(*p);
    *p = NULL;
}

void comm_attach_device(struct comm *c, struct device_comm *d)
{
    CHECK(!d || d->comm == c);
    c->device = d;
}

const char *device_comm_describe(const struct device_comm *d)
{
    return d->description;
}

bool device_comm_capturable(const struct device_comm *d)
{
    return d->capturable;
}

bool comm_capturable(const struct comm *c)
{
    return c->device ? c->device->capturable : c->size == 1; // alone nothing happens
}

void comm_await(struct comm *c, const char *name, size_t bytes)
{
    if (!c->device)
        return;
    snprintf(c->device->last, sizeof c->device->last, "%s", name);
    c->device->last_bytes = bytes;
}

// Begins a collective on the engine's memory; a device keeps the name for its waits.
static void enter(struct comm *c, const char *name, size_t bytes)
{
    watchdog_enter(c->watchdog, name, bytes);
    comm_await(c, name, bytes);
}

static int sum_on_host(struct comm *c, void *data, size_t count, enum real_type type,
                       bool deterministic)
{
    return (deterministic ? c->ops->allreduce_tree : c->ops->allreduce_sum)(c, data, count, type);
}

int comm_allreduce_sum(struct comm *c, void *data, size_t count, enum real_type type,
                       bool deterministic)
{
    return comm_allreduce_named(c, "all-reduce", data, count, type, deterministic);
}

int comm_allreduce_named(struct comm *c, const char *name, void *data, size_t count,
                         enum real_type type, bool deterministic)
{
    struct device_comm *d = c->device;
    CHECK(data || count == 0);
    enter(c, name, count * real_bytes(type));
    return comm_leave(c, d ? d->ops->allreduce(d, data, count, type, deterministic)
                           : sum_on_host(c, data, count, type, deterministic));
}

bool comm_overlaps(const struct comm *c)
{
    return c->device && c->device->ops->allreduce_beside;
}

int comm_allreduce_beside(struct comm *c, void *data, size_t count, enum real_type type,
                          bool deterministic)
{
    struct device_comm *d = c->device;
    if (!comm_overlaps(c))
        return comm_allreduce_sum(c, data, count, type, deterministic);
    CHECK(data || count == 0);
    enter(c, "all-reduce", count * real_bytes(type));
    return comm_leave(c, d->ops->allreduce_beside(d, data, count, type, deterministic));
}

int comm_join(struct comm *c)
{
    const int rc = comm_overlaps(c) ? c->device->ops->join(c->device) : RETORT_OK;
    if (rc != RETORT_OK)
        comm_abort(c, rc);
    return rc;
}

static int scatter_on_host(struct comm *c, void *data, size_t count, enum real_type type,
                           bool deterministic)
{
    return (deterministic ? c->ops->reduce_scatter_tree : c->ops->reduce_scatter_sum)(c, data,
                                                                                      count, type);
}

int comm_reduce_scatter_sum(struct comm *c, void *data, size_t count, enum real_type type,
                            bool deterministic)
{
    struct device_comm *d = c->device;
    CHECK(data || count == 0);
    enter(c, "reduce-scatter", count * real_bytes(type));
    return comm_leave(c, d ? d->ops->reduce_scatter(d, data, count, type, deterministic)
                           : scatter_on_host(c, data, count, type, deterministic));
}

int comm_allgather_ranges(struct comm *c, void *data, size_t count, enum real_type type,
                          bool deterministic)
{
    struct device_comm *d = c->device;
    CHECK(data || count == 0);
    enter(c, "range all-gather", count * real_bytes(type));
    return comm_leave(c, d ? d->ops->allgather(d, data, count, type, deterministic)
                           : c->ops->allgather_ranges(c, data, count, type, deterministic));
}

int comm_engine_broadcast(struct comm *c, void *data, size_t bytes, int root)
{
    struct device_comm *d = c->device;
    CHECK(root >= 0 && root < c->size && (data || bytes == 0));
    enter(c, "broadcast", bytes);
    return comm_leave(c, d ? d->ops->broadcast(d, data, bytes, root)
                           : c->ops->broadcast(c, data, bytes, root));
}

int comm_engine_exchange_start(struct comm *c, struct comm_request **out, const void *send,
                               const size_t *send_counts, const size_t *send_offsets, void *recv,
                               const size_t *recv_counts, const size_t *recv_offsets)
{
    const struct exchange_block to = {send_counts, send_offsets};
    const struct exchange_block from = {recv_counts, recv_offsets};
    struct device_comm *d = c->device;
    size_t bytes = 0;
    if (!d)
        return comm_exchange_start(c, out, send, send_counts, send_offsets, recv, recv_counts,
                                   recv_offsets);
    CHECK(!c->request.active && send_counts[c->rank] == recv_counts[c->rank]);
    for (int r = 0; r < c->size; r++)
        bytes += send_counts[r] + recv_counts[r];
    enter(c, "exchange", bytes);
    const int rc = comm_leave(c, d->ops->exchange_start(d, send, to, recv, from));
    c->request = (struct comm_request){.active = true, .beside = true, .bytes = bytes};
    *out = &c->request;
    return rc;
}

int comm_wait(struct comm *c)
{
    struct device_comm *d = c->device;
    if (!d)
        return RETORT_OK;
    watchdog_enter(c->watchdog, d->last, d->last_bytes);
    return comm_leave(c, d->ops->wait(d));
}
