// A stream beside the engine's, with the events that tie it to it: they may be captured.

#include "base/error.h"
#include "comm/nccl/nccl_comm.h"

int nccl_branch_open(struct nccl_branch *b)
{
    TRY_CUDA(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    TRY_CUDA(cudaEventCreateWithFlags(&b->before, cudaEventDisableTiming));
    TRY_CUDA(cudaEventCreateWithFlags(&b->after, cudaEventDisableTiming));
    return RETORT_OK;
}

void nccl_branch_close(struct nccl_branch *b)
{
    if (b->before)
        (void)cudaEventDestroy(b->before);
    if (b->after)
        (void)cudaEventDestroy(b->after);
    if (b->stream)
        (void)cudaStreamDestroy(b->stream);
}

int nccl_branch_begin(const struct nccl_branch *b, cudaStream_t engine)
{
    TRY_CUDA(cudaEventRecord(b->before, engine));
    TRY_CUDA(cudaStreamWaitEvent(b->stream, b->before, 0));
    return RETORT_OK;
}

int nccl_branch_end(const struct nccl_branch *b)
{
    TRY_CUDA(cudaEventRecord(b->after, b->stream));
    return RETORT_OK;
}

int nccl_branch_join(const struct nccl_branch *b, cudaStream_t engine)
{
    TRY_CUDA(cudaStreamWaitEvent(engine, b->after, 0));
    return RETORT_OK;
}
