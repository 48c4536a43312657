// The engine object: a GPU, its stream, its memory.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/cuda/affinity.h"
#include "models/cuda/network.h"

static const struct engine_ops CUDA_OPS;

// ---- which GPU

const char *cuda_precision(const struct cuda_engine *e)
{
    static const char *const TYPES[] = {
        [ELEMENT_F32] = "f32", [ELEMENT_BF16] = "bf16", [ELEMENT_F16] = "fp16"};
    return e->tf32 ? "tf32" : TYPES[e->type];
}

static int describe(struct cuda_engine *e, int device)
{
    struct cudaDeviceProp gpu;
    char libraries[REPORT_TEXT];
    int rc = RETORT_OK;
    TRY_CUDA(cudaSetDevice(device));
    TRY_CUDA(cudaGetDeviceProperties(&gpu, device));
    cuda_libraries(libraries);
    snprintf(e->description, sizeof(e->description), "%.128s (%.0f GiB, %.128s, %s)", gpu.name,
             (double)gpu.totalGlobalMem / (1 << 30), libraries, cuda_precision(e));
fail:
    return rc;
}

// ---- life

static void cuda_close(struct engine *base)
{
    struct cuda_engine *e = cuda_engine_of(base);
    if (e->dnn != NULL)
        (void)cudnnDestroy(e->dnn);
    cuda_update_plans_free(e);
    (void)cudaFree(e->faults);
    if (e->faults_seen != NULL)
        (void)cudaFreeHost(e->faults_seen);
    if (e->stream != NULL)
        (void)cudaStreamDestroy(e->stream);
    free(e);
}

static int read_precision(struct cuda_engine *e, int64_t precision)
{
    if (precision == PRECISION_F64)
        return FAIL(RETORT_USAGE,
                    "device cuda computes in f32, tf32, bf16 or fp16; use run.precision: f32, or "
                    "--device reference for f64");
    e->type = precision == PRECISION_BF16   ? ELEMENT_BF16
              : precision == PRECISION_FP16 ? ELEMENT_F16
                                            : ELEMENT_F32;
    e->tf32 = precision == PRECISION_TF32;
    return RETORT_OK;
}

static int open_on(struct cuda_engine *e, int device)
{
    int rc = RETORT_OK;
    TRY(describe(e, device));
    TRY_CUDA(cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking));
    TRY_CUDNN(cudnnCreate(&e->dnn));
    TRY_CUDNN(cudnnSetStream(e->dnn, e->stream));
    TRY_CUDA(cudaMallocHost((void **)&e->faults_seen, sizeof(*e->faults_seen)));
    memset(e->faults_seen, 0, sizeof(*e->faults_seen));
    TRY(cuda_memory(e, sizeof(*e->faults), &e->faults));
fail:
    return rc;
}

int cuda_open(struct engine **out, const struct engine_options *options)
{
    struct cuda_engine *e = calloc(1, sizeof(*e));
    const char *eager = getenv("RETORT_CUDA_EAGER");
    int device = 0, rc = RETORT_OK;
    TRY_ELSE(e != NULL, RETORT_MEMORY, "no memory for device cuda");
    e->base.ops = &CUDA_OPS;
    e->deterministic = options->deterministic;
    e->eager = eager != NULL && strcmp(eager, "1") == 0;
    TRY(read_precision(e, options->precision));
    TRY(cuda_pick_device(options->local_rank, &device));
    cuda_bind_near(device); // before anything has threads or pinned memory of its own
    TRY(open_on(e, device));
    *out = &e->base;
    return RETORT_OK;
fail:
    if (e != NULL)
        cuda_close(&e->base);
    return rc;
}

// ---- memory

int cuda_memory(struct cuda_engine *e, size_t bytes, void *out)
{
    void *p = NULL;
    size_t some = bytes > 0 ? bytes : 1, free_bytes = 0, total_bytes = 0;
    cudaError_t status = cudaMalloc(&p, some);
    if (status == cudaSuccess)
        status = cudaMemsetAsync(p, 0, some, e->stream);
    if (status != cudaSuccess) {
        (void)cudaFree(p);
        p = NULL;
        (void)cudaGetLastError(); // it has been seen
    }
    memcpy(out, &p, sizeof(p));
    if (status == cudaSuccess)
        return RETORT_OK;
    if (status != cudaErrorMemoryAllocation)
        return FAIL(RETORT_FAILED, "device cuda: %s", cudaGetErrorString(status));
    (void)cudaMemGetInfo(&free_bytes, &total_bytes);
    return FAIL(RETORT_MEMORY,
                "device cuda: no memory for %zu bytes (%zu of %zu are free); use more "
                "micro-batches (run.microbatches)",
                bytes, free_bytes, total_bytes);
}

static void *cuda_alloc(struct engine *e, size_t bytes)
{
    void *p;
    return cuda_memory(cuda_engine_of(e), bytes, &p) == RETORT_OK ? p : NULL;
}

static void *cuda_alloc_spare(struct engine *e, size_t bytes, int sharers)
{
    size_t free_bytes = 0, total_bytes = 0;
    void *p = NULL;
    (void)e;
    cudaError_t status = cudaMemGetInfo(&free_bytes, &total_bytes);
    if (status == cudaSuccess && bytes <= free_bytes / 2 / (size_t)sharers)
        status = cudaMalloc(&p, bytes > 0 ? bytes : 1);
    if (status != cudaSuccess)
        (void)cudaGetLastError(); // it has been seen
    return status == cudaSuccess ? p : NULL;
}

// cudaFree waits for all that is queued.
static void cuda_free(struct engine *e, void *p)
{
    (void)e;
    (void)cudaFree(p);
}

static int cuda_upload(struct engine *e, void *to, const void *from, size_t bytes)
{
    int rc = RETORT_OK;
    if (bytes > 0)
        TRY_CUDA(
            cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, cuda_engine_of(e)->stream));
fail:
    return rc;
}

int cuda_wait(struct cuda_engine *e)
{
    struct cuda_faults *seen = e->faults_seen;
    int rc = RETORT_OK;
    TRY_CUDA(cudaMemcpyAsync(seen, e->faults, sizeof(*seen), cudaMemcpyDeviceToHost, e->stream));
    TRY_CUDA(cudaStreamSynchronize(e->stream));
    TRY_ELSE(seen->label.sample == 0, RETORT_INPUT,
             "sample %lld has label %d, which the network has no class for",
             (long long)seen->label.sample - 1, seen->label.label);
fail:
    return rc;
}

static int cuda_download(struct engine *base, void *to, const void *from, size_t bytes)
{
    struct cuda_engine *e = cuda_engine_of(base);
    int rc = RETORT_OK;
    if (bytes > 0)
        TRY_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, e->stream));
    TRY(cuda_wait(e));
fail:
    return rc;
}

static int cuda_synchronize(struct engine *e)
{
    return cuda_wait(cuda_engine_of(e));
}

static enum real_type cuda_real(const struct engine *e)
{
    (void)e;
    return REAL_F32;
}

static const char *cuda_describe(const struct engine *e)
{
    return cuda_engine_of(e)->description;
}

static void *cuda_stream(struct engine *e)
{
    return cuda_engine_of(e)->stream;
}

static const struct engine_ops CUDA_OPS = {
    .name = "cuda",
    .close = cuda_close,
    .real = cuda_real,
    .describe = cuda_describe,
    .stream = cuda_stream,
    .alloc = cuda_alloc,
    .alloc_spare = cuda_alloc_spare,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .synchronize = cuda_synchronize,
    .from_f32 = cuda_from_f32,
    .to_f32 = cuda_to_f32,
    .add = cuda_add,
    .add_on = cuda_add_on,
    .zero = cuda_zero,
    .gather = cuda_gather,
    .copy = cuda_copy,
    .update = cuda_update,
    .all_finite = cuda_all_finite,
    .staged_create = cuda_staged_create,
    .staged_destroy = cuda_staged_destroy,
    .staged_memory = cuda_staged_memory,
    .staged_put = cuda_staged_put,
    .record = cuda_record,
    .recorded_destroy = cuda_recorded_destroy,
    .input_create = cuda_input_create,
    .input_destroy = cuda_input_destroy,
    .input_memory = cuda_input_memory,
    .input_load = cuda_input_load,
    .input_load_values = cuda_input_load_values,
    .network_create = cuda_network_create,
    .network_destroy = cuda_network_destroy,
    .network_plan = cuda_network_plan,
    .network_memory = cuda_network_memory,
    .network_set_weights = cuda_network_set_weights,
    .network_forward = cuda_network_forward,
    .network_logits = cuda_network_logits,
    .network_loss = cuda_network_loss,
    .network_backward = cuda_network_backward,
    .network_logits_f16 = cuda_network_logits_f16,
    .network_beside = cuda_network_beside,
    .group_forward = cuda_group_forward,
    .group_backward = cuda_group_backward,
};
