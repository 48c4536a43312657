// Collectives by NCCL, on device memory and in place.

#include "base/error.h"
#include "comm/nccl/nccl_comm.h"

int nccl_group_begin(const struct nccl_comm *n)
{
    TRY_NCCL(n, ncclGroupStart());
    return RETORT_OK;
}

int nccl_group_end(const struct nccl_comm *n)
{
    TRY_NCCL(n, ncclGroupEnd());
    return nccl_settle(n);
}

ncclDataType_t nccl_real(enum real_type type)
{
    return type == REAL_F64 ? ncclFloat64 : ncclFloat32;
}

static int sum_on(const struct nccl_comm *n, void *data, size_t count, enum real_type type,
                  bool deterministic, cudaStream_t stream)
{
    int rc = RETORT_OK;
    if (deterministic) {
        TRY(nccl_tree_up(n, data, count, type, stream));
        return nccl_tree_down(n, data, count, type, stream);
    }
    if (count > 0)
        TRY_NCCL(n, ncclAllReduce(data, data, count, nccl_real(type), ncclSum, n->nccl, stream));
    return nccl_settle(n);
fail:
    return rc;
}

static int allreduce(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic)
{
    return sum_on(nccl_of(d), data, count, type, deterministic, d->stream);
}

static int allreduce_beside(struct device_comm *d, void *data, size_t count, enum real_type type,
                            bool deterministic)
{
    const struct nccl_comm *n = nccl_of(d);
    int rc = RETORT_OK;
    TRY(nccl_branch_begin(&n->sums, d->stream));
    TRY(sum_on(n, data, count, type, deterministic, n->sums.stream));
    TRY(nccl_branch_end(&n->sums));
fail:
    return rc;
}

static int join(struct device_comm *d)
{
    return nccl_branch_join(&nccl_of(d)->sums, d->stream);
}

// The parts that all ranks have alike, and what the last one has beyond its own.
struct parts {
    size_t each, rest, bytes; // elements, elements, of an element
    char *mine, *tail;
    int last;
};

static struct parts parts_of(const struct comm *c, char *data, size_t count, enum real_type type)
{
    struct parts p = {.bytes = real_bytes(type), .last = c->size - 1};
    size_t begin, end;
    comm_own_range(c, count, false, 0, &begin, &end);
    p.each = end;
    p.rest = count - p.each * (size_t)c->size;
    p.mine = data + p.each * (size_t)c->rank * p.bytes;
    p.tail = data + (count - p.rest) * p.bytes;
    return p;
}

static int reduce_scatter(struct device_comm *d, void *data, size_t count, enum real_type type,
                          bool deterministic)
{
    struct nccl_comm *n = nccl_of(d);
    int rc = RETORT_OK;
    if (deterministic)
        return nccl_tree_up(n, data, count, type, d->stream);
    const struct parts p = parts_of(d->comm, data, count, type);
    TRY(nccl_group_begin(n));
    if (p.each > 0)
        TRY_NCCL(n, ncclReduceScatter(data, p.mine, p.each, nccl_real(type), ncclSum, n->nccl,
                                      d->stream));
    if (p.rest > 0)
        TRY_NCCL(n, ncclReduce(p.tail, p.tail, p.rest, nccl_real(type), ncclSum, p.last, n->nccl,
                               d->stream));
    TRY(nccl_group_end(n));
fail:
    return rc;
}

static int allgather(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic)
{
    struct nccl_comm *n = nccl_of(d);
    int rc = RETORT_OK;
    if (deterministic)
        return nccl_tree_down(n, data, count, type, d->stream);
    const struct parts p = parts_of(d->comm, data, count, type);
    TRY(nccl_group_begin(n));
    if (p.each > 0)
        TRY_NCCL(n, ncclAllGather(p.mine, data, p.each, nccl_real(type), n->nccl, d->stream));
    if (p.rest > 0)
        TRY_NCCL(
            n, ncclBroadcast(p.tail, p.tail, p.rest, nccl_real(type), p.last, n->nccl, d->stream));
    TRY(nccl_group_end(n));
fail:
    return rc;
}

static int broadcast(struct device_comm *d, void *data, size_t bytes, int root)
{
    struct nccl_comm *n = nccl_of(d);
    if (bytes > 0)
        TRY_NCCL(n, ncclBroadcast(data, data, bytes, ncclUint8, root, n->nccl, d->stream));
    return nccl_settle(n);
}

// This rank's block to itself, and a message to and from each other rank.
static int exchange_on(struct nccl_comm *n, const char *send, struct exchange_block to, char *recv,
                       struct exchange_block from, cudaStream_t stream)
{
    const int rank = n->base.comm->rank, size = n->base.comm->size;
    int rc = RETORT_OK;
    if (to.counts[rank] > 0)
        TRY_CUDA(cudaMemcpyAsync(recv + from.offsets[rank], send + to.offsets[rank],
                                 to.counts[rank], cudaMemcpyDeviceToDevice, stream));
    TRY(nccl_group_begin(n));
    for (int i = 1; i < size; i++) {
        const int next = (rank + i) % size, before = (rank + size - i) % size;
        if (to.counts[next] > 0)
            TRY_NCCL(n, ncclSend(send + to.offsets[next], to.counts[next], ncclUint8, next, n->nccl,
                                 stream));
        if (from.counts[before] > 0)
            TRY_NCCL(n, ncclRecv(recv + from.offsets[before], from.counts[before], ncclUint8,
                                 before, n->nccl, stream));
    }
    TRY(nccl_group_end(n));
fail:
    return rc;
}

static int exchange_start(struct device_comm *d, const void *send, struct exchange_block to,
                          void *recv, struct exchange_block from)
{
    struct nccl_comm *n = nccl_of(d);
    int rc = RETORT_OK;
    TRY(nccl_branch_begin(&n->exchanges, d->stream));
    TRY(exchange_on(n, send, to, recv, from, n->exchanges.stream));
    TRY(nccl_branch_end(&n->exchanges));
fail:
    return rc;
}

static int exchange_join(struct device_comm *d)
{
    return nccl_branch_join(&nccl_of(d)->exchanges, d->stream);
}

const struct device_ops nccl_ops = {
    .destroy = nccl_destroy,
    .allreduce = allreduce,
    .allreduce_beside = allreduce_beside,
    .join = join,
    .reduce_scatter = reduce_scatter,
    .allgather = allgather,
    .broadcast = broadcast,
    .exchange_start = exchange_start,
    .exchange_join = exchange_join,
    .wait = nccl_wait,
};
