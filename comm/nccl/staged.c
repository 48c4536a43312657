// Collectives of ranks that share a GPU, which NCCL refuses: copied to pinned host memory, done by
// the comm's own transport, and copied back, a piece at a time. All is done when a call returns.

#include "base/error.h"
#include "comm/nccl/nccl_comm.h"

static int to_host(struct nccl_comm *n, char *to, const char *from, size_t bytes)
{
    if (bytes > 0)
        TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, n->base.stream));
    return RETORT_OK;
}

static int to_device(struct nccl_comm *n, char *to, const char *from, size_t bytes)
{
    if (bytes > 0)
        TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, n->base.stream));
    return RETORT_OK;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int allreduce(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic)
{
    struct nccl_comm *n = nccl_of(d);
    struct comm *c = d->comm;
    const size_t one = real_bytes(type), most = n->needs.staging_bytes / one;
    int rc = RETORT_OK;
    for (size_t done = 0; c->size > 1 && done < count; done += most) {
        const size_t part = smaller(count - done, most);
        char *at = (char *)data + done * one;
        TRY(to_host(n, n->pinned, at, part * one));
        TRY(nccl_wait(d));
        TRY((deterministic ? c->ops->allreduce_tree : c->ops->allreduce_sum)(c, n->pinned, part,
                                                                             type));
        TRY(to_device(n, at, n->pinned, part * one));
        TRY(nccl_wait(d)); // pinned memory is free again, for another stream too
    }
fail:
    return rc;
}

static int broadcast(struct device_comm *d, void *data, size_t bytes, int root)
{
    struct nccl_comm *n = nccl_of(d);
    struct comm *c = d->comm;
    int rc = RETORT_OK;
    for (size_t done = 0; c->size > 1 && done < bytes; done += n->needs.staging_bytes) {
        const size_t part = smaller(bytes - done, n->needs.staging_bytes);
        char *at = (char *)data + done;
        if (c->rank == root)
            TRY(to_host(n, n->pinned, at, part));
        TRY(nccl_wait(d));
        TRY(c->ops->broadcast(c, n->pinned, part, root));
        if (c->rank != root)
            TRY(to_device(n, at, n->pinned, part));
        TRY(nccl_wait(d));
    }
fail:
    return rc;
}

static int allgather(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic)
{
    const size_t one = real_bytes(type);
    int rc = RETORT_OK;
    for (int r = 0; r < d->comm->size; r++) {
        size_t begin, end;
        comm_own_range(d->comm, count, deterministic, r, &begin, &end);
        TRY(broadcast(d, (char *)data + begin * one, (end - begin) * one, r));
    }
fail:
    return rc;
}

// One round of an exchange: the part from `done` on of each peer's block, at most `most` bytes.
struct round {
    struct nccl_comm *n;
    struct exchange_block to, from; // of the whole exchange
    size_t done, most;
};

static size_t part_of(const struct round *r, const size_t *counts, int peer)
{
    const size_t count = peer == r->n->base.comm->rank ? 0 : counts[peer];
    return count > r->done ? smaller(count - r->done, r->most) : 0;
}

// The round's blocks in pinned memory: those that leave, then those that come. Returns whether
// there are any.
static bool lay_out(const struct round *r, struct exchange_block *out, struct exchange_block *in)
{
    const size_t size = (size_t)r->n->base.comm->size;
    size_t *counts = r->n->blocks, total = 0;
    *out = (struct exchange_block){counts, counts + size};
    *in = (struct exchange_block){counts + 2 * size, counts + 3 * size};
    for (size_t p = 0; p < size; p++) {
        counts[p] = part_of(r, r->to.counts, (int)p);
        counts[size + p] = p * r->most;
        counts[2 * size + p] = part_of(r, r->from.counts, (int)p);
        counts[3 * size + p] = (size + p) * r->most;
        total += counts[p] + counts[2 * size + p];
    }
    return total > 0;
}

static int run_round(const struct round *r, const char *send, char *recv,
                     const struct exchange_block *out, const struct exchange_block *in)
{
    struct nccl_comm *n = r->n;
    struct comm *c = n->base.comm;
    int rc = RETORT_OK;
    for (int p = 0; p < c->size; p++)
        TRY(to_host(n, n->pinned + out->offsets[p], send + r->to.offsets[p] + r->done,
                    out->counts[p]));
    TRY(nccl_wait(&n->base));
    TRY(c->ops->exchange_start(c, n->pinned, *out, n->pinned, *in));
    TRY(c->ops->exchange_wait(c));
    for (int p = 0; p < c->size; p++)
        TRY(to_device(n, recv + r->from.offsets[p] + r->done, n->pinned + in->offsets[p],
                      in->counts[p]));
    TRY(nccl_wait(&n->base));
fail:
    return rc;
}

static int exchange_start(struct device_comm *d, const void *send, struct exchange_block to,
                          void *recv, struct exchange_block from)
{
    const int rank = d->comm->rank;
    struct nccl_comm *n = nccl_of(d);
    struct round r = {n, to, from, 0, n->needs.staging_bytes / 2 / (size_t)d->comm->size};
    struct exchange_block out, in;
    int rc = RETORT_OK;
    CHECK(r.most > 0 && !d->comm->request.active);
    if (to.counts[rank] > 0)
        TRY_CUDA(cudaMemcpyAsync((char *)recv + from.offsets[rank],
                                 (const char *)send + to.offsets[rank], to.counts[rank],
                                 cudaMemcpyDeviceToDevice, d->stream));
    for (; d->comm->size > 1 && lay_out(&r, &out, &in); r.done += r.most)
        TRY(run_round(&r, send, recv, &out, &in));
fail:
    return rc;
}

static int exchange_join(struct device_comm *d)
{
    (void)d;
    return RETORT_OK; // all was done when it began
}

const struct device_ops staged_ops = {
    .destroy = nccl_destroy,
    .allreduce = allreduce,
    .reduce_scatter = allreduce, // the own range is part of it
    .allgather = allgather,
    .broadcast = broadcast,
    .exchange_start = exchange_start,
    .exchange_join = exchange_join,
    .wait = nccl_wait,
};
