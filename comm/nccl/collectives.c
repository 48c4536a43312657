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

static int allreduce(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic)
{
    struct nccl_comm *n = nccl_of(d);
    int rc = RETORT_OK;
    if (deterministic) {
        TRY(nccl_tree_up(n, data, count, type));
        return nccl_tree_down(n, data, count, type);
    }
    if (count > 0)
        TRY_NCCL(n, ncclAllReduce(data, data, count, nccl_real(type), ncclSum, n->nccl, d->stream));
    return nccl_settle(n);
fail:
    return rc;
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
        return nccl_tree_up(n, data, count, type);
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
        return nccl_tree_down(n, data, count, type);
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
    TRY_CUDA(cudaEventRecord(n->before, d->stream));
    TRY_CUDA(cudaStreamWaitEvent(n->side, n->before, 0));
    TRY(exchange_on(n, send, to, recv, from, n->side));
    TRY_CUDA(cudaEventRecord(n->after, n->side));
fail:
    return rc;
}

static int exchange_join(struct device_comm *d)
{
    TRY_CUDA(cudaStreamWaitEvent(d->stream, nccl_of(d)->after, 0));
    return RETORT_OK;
}

const struct device_ops nccl_ops = {
    .destroy = nccl_destroy,
    .allreduce = allreduce,
    .reduce_scatter = reduce_scatter,
    .allgather = allgather,
    .broadcast = broadcast,
    .exchange_start = exchange_start,
    .exchange_join = exchange_join,
    .wait = nccl_wait,
};
