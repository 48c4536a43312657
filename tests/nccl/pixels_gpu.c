// The GPU's memory, with a stream of the rank's and the ranks joined.

#include "base/error.h"
#include "models/cuda/kernels/gather.h"
#include "tests/data/pixels.h"
#include "tests/nccl/gpu.h"

#define OK(call) CHECK((call) == cudaSuccess)

enum { STAGING_BYTES = 4096 }; // less than most pieces: rounds, where ranks share a GPU

static struct gpu_rank rank;

static void *take(void *context, size_t bytes)
{
    (void)context;
    return test_memory_gpu.create(bytes);
}

static void give_back(void *context, void *p)
{
    (void)context;
    test_memory_gpu.destroy(p);
}

static int upload(void *context, void *to, const void *from, size_t bytes)
{
    (void)context;
    OK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, rank.stream));
    return RETORT_OK;
}

static int gather(void *context, void *to, const void *from, const int64_t *rows, int64_t count,
                  size_t row_bytes)
{
    (void)context;
    OK(gather_launch(to, from, rows, (size_t)count, row_bytes, rank.stream));
    return RETORT_OK;
}

static void get(void *to, const void *from, size_t bytes)
{
    OK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, rank.stream));
    OK(cudaStreamSynchronize(rank.stream));
}

bool test_pixels_open(struct test_pixels *t)
{
    if (!gpu_rank_open(&rank))
        return false;
    gpu_rank_connect(&rank, STAGING_BYTES, 60.0);
    comm_attach_device(rank.comm, rank.device);
    *t = (struct test_pixels){
        .comm = rank.comm, .memory = {NULL, take, give_back, upload, gather, false}, .get = get};
    return true;
}

void test_pixels_close(struct test_pixels *t)
{
    (void)t;
    gpu_rank_close(&rank);
}
