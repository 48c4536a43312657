// Connecting: which GPU each rank has, and NCCL's communicator over them.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/nccl/nccl_comm.h"
#include "comm/watchdog.h"

enum { DEFAULT_STAGING_BYTES = 32 << 20 };

// Which GPU: two ranks with the same are what NCCL refuses.
struct place {
    char host[COMM_HOST_CAPACITY];
    cudaUUID_t uuid;
};

static int find_place(const struct comm *c, struct place *p)
{
    struct cudaDeviceProp properties;
    int device = 0;
    memset(p, 0, sizeof *p);
    snprintf(p->host, sizeof p->host, "%s", c->host); // nothing behind its end: it is compared
    TRY_CUDA(cudaGetDevice(&device));
    TRY_CUDA(cudaGetDeviceProperties(&properties, device));
    p->uuid = properties.uuid;
    return RETORT_OK;
}

// The first two ranks that share a GPU; false when none do. Collective.
static int find_sharing(struct comm *c, int *one, int *other, bool *found)
{
    int rc = RETORT_OK;
    struct place mine, *all = calloc((size_t)c->size, sizeof *all);
    *found = false;
    rc = all ? find_place(c, &mine) : FAIL(RETORT_MEMORY, "no memory for the list of GPUs");
    TRY(comm_agree(c, rc));
    CHECK(all); // else all ranks have left
    TRY(comm_allgather(c, &mine, sizeof mine, all));
    for (int b = 1; b < c->size && !*found; b++)
        for (int a = 0; a < b && !*found; a++)
            if (memcmp(&all[a], &all[b], sizeof mine) == 0) {
                *one = a;
                *other = b;
                *found = true;
            }
fail:
    free(all);
    return rc;
}

// The id that makes a communicator of those who know it: made by rank 0, for all.
static int share_id(struct nccl_comm *n, ncclUniqueId *id)
{
    struct {
        ncclUniqueId id;
        int code;
    } made = {.code = RETORT_OK};
    struct comm *c = n->base.comm;
    if (c->rank == 0) {
        const ncclResult_t code = ncclGetUniqueId(&made.id);
        if (code != ncclSuccess)
            made.code = nccl_failed(n, code, "ncclGetUniqueId");
    }
    const int rc = comm_broadcast(c, &made, sizeof made, 0);
    *id = made.id;
    return rc ? rc : made.code;
}

static int connect_ranks(struct nccl_comm *n, ncclUniqueId id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    TRY_NCCL(n,
             ncclCommInitRankConfig(&n->nccl, n->base.comm->size, id, n->base.comm->rank, &config));
    return nccl_settle(n);
}

static int open_branches(struct nccl_comm *n)
{
    int rc = RETORT_OK;
    TRY(nccl_branch_open(&n->exchanges));
    TRY(nccl_branch_open(&n->sums));
fail:
    return rc;
}

static int open_nccl(struct nccl_comm *n)
{
    struct comm *c = n->base.comm;
    int rc = RETORT_OK, version = 0;
    ncclUniqueId id;
    TRY(share_id(n, &id));
    watchdog_enter(c->watchdog, n->base.last, 0);
    comm_leave(c, connect_ranks(n, id)); // peers wait for a rank that fails here: all end
    n->staging = c->size > 1 ? n->needs.alloc(n->needs.context, n->needs.staging_bytes) : NULL;
    rc = n->staging || c->size == 1 ? open_branches(n) : RETORT_MEMORY;
    TRY(comm_agree(c, rc));
    n->base.ops = &nccl_ops;
    n->base.capturable = true;
    (void)ncclGetVersion(&version);
    snprintf(n->base.description, sizeof n->base.description, "NCCL %d.%d.%d", version / 10000,
             version / 100 % 100, version % 100);
fail:
    return rc;
}

static int open_staged(struct nccl_comm *n)
{
    struct comm *c = n->base.comm;
    int rc = RETORT_OK;
    n->base.ops = &staged_ops;
    n->base.capturable = c->size == 1; // nothing happens then
    if (c->size == 1)
        return RETORT_OK;
    n->blocks = calloc(4 * (size_t)c->size, sizeof *n->blocks);
    if (!n->blocks)
        rc = FAIL(RETORT_MEMORY, "no memory for exchanges through host memory");
    const cudaError_t code = cudaMallocHost((void **)&n->pinned, n->needs.staging_bytes);
    if (code != cudaSuccess)
        rc = cuda_failed(code, "cudaMallocHost");
    return comm_agree(c, rc);
}

static int choose(struct nccl_comm *n)
{
    struct comm *c = n->base.comm;
    int rc = RETORT_OK, one, other;
    bool shared;
    TRY(find_sharing(c, &one, &other, &shared));
    if (shared) {
        snprintf(n->base.description, sizeof n->base.description,
                 "host memory: ranks %d and %d share a GPU", one, other);
        log_info("ranks %d and %d share a GPU: sums between ranks go through host memory", one,
                 other);
        return open_staged(n);
    }
    if (c->size == 1 && !n->needs.even_alone) {
        snprintf(n->base.description, sizeof n->base.description, "one GPU");
        return open_staged(n);
    }
    return open_nccl(n);
fail:
    return rc;
}

__attribute__((visibility("default"))) int
device_comm_open(struct device_comm **out, struct comm *c, const struct device_needs *needs)
{
    int rc = RETORT_OK;
    *out = NULL;
    struct nccl_comm *n = calloc(1, sizeof *n);
    if (!n)
        rc = FAIL(RETORT_MEMORY, "no memory for a communicator of GPUs");
    TRY(comm_agree(c, rc));
    CHECK(n); // else all ranks have left
    n->base = (struct device_comm){.ops = &staged_ops, .comm = c, .stream = needs->stream};
    snprintf(n->base.last, sizeof n->base.last, "NCCL start");
    n->needs = *needs;
    if (n->needs.staging_bytes == 0)
        n->needs.staging_bytes = DEFAULT_STAGING_BYTES;
    TRY(choose(n));
    snprintf(n->base.last, sizeof n->base.last, "GPU's work");
    *out = &n->base;
    return RETORT_OK;
fail:
    if (n)
        nccl_destroy(&n->base);
    return rc;
}

// A communicator that cannot be finished in good order is given up.
static void disconnect(struct nccl_comm *n)
{
    const ncclResult_t code = ncclCommFinalize(n->nccl);
    const bool finished = code == ncclSuccess || code == ncclInProgress;
    if (finished && nccl_settle(n) == RETORT_OK)
        (void)ncclCommDestroy(n->nccl);
    else
        (void)ncclCommAbort(n->nccl);
}

void nccl_destroy(struct device_comm *d)
{
    struct nccl_comm *n = nccl_of(d);
    if (n->nccl)
        disconnect(n);
    nccl_branch_close(&n->exchanges);
    nccl_branch_close(&n->sums);
    if (n->staging)
        n->needs.free(n->needs.context, n->staging);
    if (n->pinned)
        (void)cudaFreeHost(n->pinned);
    free(n->blocks);
    free(n);
}
