#pragma once
// A rank with a GPU, software or not, as the tests of comm/nccl/ need it.

#include <cuda_runtime_api.h>

#include "comm/comm.h"
#include "comm/device.h"
#include "tests/comm/engine_memory.h"

struct gpu_rank {
    struct comm *comm;
    struct device_comm *device; // not yet attached
    cudaStream_t stream;
};

// MPI, the GPU of the rank's number on its node (or one that it shares), a stream. Returns false
// when there is no GPU; ends all ranks when anything fails.
bool gpu_rank_open(struct gpu_rank *r);
// Connects the ranks; NCCL even for one.
void gpu_rank_connect(struct gpu_rank *r, size_t staging_bytes, double timeout_s);
void gpu_rank_close(struct gpu_rank *r);

extern const struct test_memory test_memory_gpu;
