#pragma once
// What the files of the GPUs' transport share. Inside comm/nccl/ only.

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "comm/comm_ops.h"

// A stream beside the engine's: what it does comes after what was queued there when it began, and
// before what is queued there from when it is joined on.
struct nccl_branch {
    cudaStream_t stream;       // owned, as are the events …
    cudaEvent_t before, after; // … of its latest beginning and end
};

struct nccl_comm {
    struct device_comm base;
    struct device_needs needs;
    ncclComm_t nccl;                    // NULL: through host memory
    char *staging;                      // NCCL: device memory [needs.staging_bytes], for what is
                                        // to be added, of sums on any stream: see tree.c
    struct nccl_branch exchanges, sums; // NCCL: beside the engine's stream
    char *pinned;                       // else: host memory [needs.staging_bytes]
    size_t *blocks; // else: [4][size] counts and offsets of an exchange's part; owned
};

static inline struct nccl_comm *nccl_of(struct device_comm *d)
{
    return (struct nccl_comm *)d;
}

// Print the library's message, return RETORT_RANK. A failure that NCCL blames on another rank is
// said only when that rank has had the time to say more, and to end this one.
int cuda_failed(cudaError_t code, const char *call);
int nccl_failed(const struct nccl_comm *n, ncclResult_t code, const char *call);

// For functions that return a retort_code and have nothing to free.
#define TRY_CUDA(call)                                                                             \
    do {                                                                                           \
        cudaError_t cuda_code_ = (call);                                                           \
        if (cuda_code_ != cudaSuccess)                                                             \
            return cuda_failed(cuda_code_, #call);                                                 \
    } while (0)

// A call on a communicator that does not block may return before it is done.
#define TRY_NCCL(n, call)                                                                          \
    do {                                                                                           \
        ncclResult_t nccl_code_ = (call);                                                          \
        if (nccl_code_ != ncclSuccess && nccl_code_ != ncclInProgress)                             \
            return nccl_failed(n, nccl_code_, #call);                                              \
    } while (0)

// Waits until the calls so far are done on the host's side: what comes after needs that.
int nccl_settle(const struct nccl_comm *n);
// device_ops' wait.
int nccl_wait(struct device_comm *d);

ncclDataType_t nccl_real(enum real_type type);

// Opens a group of calls that run together, and closes it.
int nccl_group_begin(const struct nccl_comm *n);
int nccl_group_end(const struct nccl_comm *n);

int nccl_branch_open(struct nccl_branch *b);
void nccl_branch_close(struct nccl_branch *b); // takes a half-open one
// All that follows on b->stream comes after what is queued on the engine's stream now.
int nccl_branch_begin(const struct nccl_branch *b, cudaStream_t engine);
int nccl_branch_end(const struct nccl_branch *b);
// What is queued on the engine's stream from now on comes after the latest end.
int nccl_branch_join(const struct nccl_branch *b, cudaStream_t engine);

// The deterministic sum: up the tree, which leaves each rank with the sum of its own range, and
// down, which brings all ranges to all.
int nccl_tree_up(const struct nccl_comm *n, char *data, size_t count, enum real_type type,
                 cudaStream_t stream);
int nccl_tree_down(const struct nccl_comm *n, char *data, size_t count, enum real_type type,
                   cudaStream_t stream);

extern const struct device_ops nccl_ops;   // by NCCL
extern const struct device_ops staged_ops; // through host memory; alone too
void nccl_destroy(struct device_comm *d);  // of both
