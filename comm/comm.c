// Dispatch: checks the arguments, tells the watchdog, calls the transport, and ends all ranks when
// the transport failed: peers may sit in the same collective, so no agreement is possible then.

#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "comm/comm_ops.h"
#include "comm/watchdog.h"

void comm_destroy(struct comm **p)
{
    if (!*p)
        return;
    CHECK(!(*p)->request.active && !(*p)->device);
    (*p)->ops->destroy(*p);
    *p = NULL;
}

int comm_rank(const struct comm *c)
{
    return c->rank;
}

int comm_size(const struct comm *c)
{
    return c->size;
}

int comm_local_rank(const struct comm *c)
{
    return c->local_rank;
}

int comm_local_size(const struct comm *c)
{
    return c->local_size;
}

const char *comm_host(const struct comm *c)
{
    return c->host;
}

void comm_attach_watchdog(struct comm *c, struct watchdog *w)
{
    c->watchdog = w;
}

void comm_abort(struct comm *c, int code)
{
    c->ops->abort(c, code);
    _Exit(code); // what the table cannot promise the compiler
}

int comm_leave(struct comm *c, int rc)
{
    if (rc != RETORT_OK)
        comm_abort(c, rc);
    watchdog_leave(c->watchdog);
    return rc;
}

static int allreduce_max(struct comm *c, const char *name, int value)
{
    watchdog_enter(c->watchdog, name, sizeof value);
    comm_leave(c, c->ops->allreduce_max(c, &value));
    return value;
}

int comm_agree(struct comm *c, int code)
{
    return allreduce_max(c, "agreement", code);
}

bool comm_any(struct comm *c, bool value)
{
    return allreduce_max(c, "vote", value) != 0;
}

int comm_barrier(struct comm *c)
{
    watchdog_enter(c->watchdog, "barrier", 0);
    return comm_leave(c, c->ops->barrier(c));
}

int comm_broadcast(struct comm *c, void *data, size_t bytes, int root)
{
    CHECK(root >= 0 && root < c->size);
    CHECK(data || bytes == 0);
    watchdog_enter(c->watchdog, "broadcast", bytes);
    return comm_leave(c, c->ops->broadcast(c, data, bytes, root));
}

int comm_allgather(struct comm *c, const void *mine, size_t bytes, void *all)
{
    CHECK((mine && all) || bytes == 0);
    watchdog_enter(c->watchdog, "all-gather", bytes);
    return comm_leave(c, c->ops->allgather(c, mine, bytes, all));
}

int comm_gatherv(struct comm *c, const void *mine, size_t bytes, void *all, const size_t *counts,
                 const size_t *offsets, int root)
{
    CHECK(root >= 0 && root < c->size);
    CHECK(mine || bytes == 0);
    if (c->rank == root)
        CHECK(counts && offsets && counts[root] == bytes);
    watchdog_enter(c->watchdog, "gather", bytes);
    return comm_leave(c, c->ops->gatherv(c, mine, bytes, all, counts, offsets, root));
}

void exchange_copy_own(int rank, const void *send, struct exchange_block to, void *recv,
                       struct exchange_block from)
{
    if (to.counts[rank] > 0)
        memmove((char *)recv + from.offsets[rank], (const char *)send + to.offsets[rank],
                to.counts[rank]);
}

int comm_exchange_start(struct comm *c, struct comm_request **out, const void *send,
                        const size_t *send_counts, const size_t *send_offsets, void *recv,
                        const size_t *recv_counts, const size_t *recv_offsets)
{
    struct comm_request *request = &c->request;
    CHECK(!request->active);
    CHECK(send_counts[c->rank] == recv_counts[c->rank]);
    *request = (struct comm_request){.active = true};
    for (int r = 0; r < c->size; r++)
        request->bytes += send_counts[r] + recv_counts[r];
    *out = request;
    watchdog_enter(c->watchdog, "exchange start", request->bytes);
    return comm_leave(
        c, c->ops->exchange_start(c, send, (struct exchange_block){send_counts, send_offsets}, recv,
                                  (struct exchange_block){recv_counts, recv_offsets}));
}

int comm_exchange_test(struct comm *c, struct comm_request **request, bool *done)
{
    CHECK(*request == &c->request && c->request.active);
    *done = false;
    int rc = c->request.beside ? RETORT_OK : c->ops->exchange_test(c, done);
    if (rc != RETORT_OK)
        comm_abort(c, rc);
    if (*done) {
        c->request.active = false;
        *request = NULL;
    }
    return RETORT_OK;
}

int comm_exchange_wait(struct comm *c, struct comm_request **request)
{
    CHECK(*request == &c->request && c->request.active);
    watchdog_wait(c->watchdog, "exchange", c->request.bytes);
    CHECK(!c->request.beside || c->device);
    c->request.active = false;
    *request = NULL;
    return comm_leave(c, c->request.beside ? c->device->ops->exchange_join(c->device)
                                           : c->ops->exchange_wait(c));
}
