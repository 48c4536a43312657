// A batch's samples on their way to the GPU, ahead of the work that reads them.
//
// What changes from step to step stands in one block, written to pinned memory and copied in one
// piece: the source, slots, sample ids. Pictures that lie in host memory travel batch by batch, and
// slots are then places in the batch.

#include <stdlib.h>
#include <string.h>

#include "models/cuda/cuda.h"

enum { SOURCE_BYTES = 64 }; // the source's place in the block
_Static_assert(sizeof(struct sample_source) <= SOURCE_BYTES, "the source fits its place");

static struct cuda_staged *staged_of(struct staged_batch *s)
{
    return (struct cuda_staged *)s;
}

static size_t block_bytes(const struct cuda_staged *s)
{
    return SOURCE_BYTES + 2 * (size_t)s->max_count * sizeof(int64_t);
}

static size_t pictures_bytes(const struct cuda_staged *s)
{
    return (size_t)s->max_count * s->picture_bytes;
}

// ---- life

static int create_block(struct cuda_staged *s)
{
    int rc = RETORT_OK;
    TRY(cuda_memory(s->engine, block_bytes(s), &s->block));
    TRY_CUDA(cudaMallocHost(&s->copy, block_bytes(s)));
    memset(s->copy, 0, block_bytes(s));
    TRY_CUDA(cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming));
    s->source = s->block;
    s->slot = (const int64_t *)((const char *)s->block + SOURCE_BYTES);
    s->sample_id = s->slot + s->max_count;
    s->kept = s->copy;
fail:
    return rc;
}

int cuda_staged_create(struct staged_batch **out, struct engine *e,
                       const struct picture_format *format, int max_count)
{
    struct cuda_staged *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return FAIL(RETORT_MEMORY, "no memory for a batch's samples");
    s->base.ops = e->ops;
    s->engine = cuda_engine_of(e);
    s->picture_bytes = (size_t)format->height * format->width * 3;
    s->max_count = max_count;
    int rc = create_block(s);
    if (rc != RETORT_OK)
        cuda_staged_destroy(&s->base);
    else
        *out = &s->base;
    return rc;
}

void cuda_staged_destroy(struct staged_batch *base)
{
    struct cuda_staged *s = staged_of(base);
    (void)cudaFree(s->block);
    (void)cudaFree(s->pictures);
    if (s->copy != NULL)
        (void)cudaFreeHost(s->copy);
    if (s->gathered != NULL)
        (void)cudaFreeHost(s->gathered);
    if (s->sent != NULL)
        (void)cudaEventDestroy(s->sent);
    free(s);
}

size_t cuda_staged_memory(const struct staged_batch *base)
{
    const struct cuda_staged *s = cuda_staged_of(base);
    return block_bytes(s) + (s->pictures != NULL ? pictures_bytes(s) : 0);
}

// ---- putting

static bool on_device(const void *p)
{
    struct cudaPointerAttributes a;
    bool there = cudaPointerGetAttributes(&a, p) == cudaSuccess &&
                 (a.type == cudaMemoryTypeDevice || a.type == cudaMemoryTypeManaged);
    (void)cudaGetLastError(); // older runtimes call host memory an error
    return there;
}

static int reserve_pictures(struct cuda_staged *s)
{
    int rc = RETORT_OK;
    if (s->pictures == NULL)
        TRY(cuda_memory(s->engine, pictures_bytes(s), &s->pictures));
    if (s->gathered == NULL)
        TRY_CUDA(cudaMallocHost((void **)&s->gathered, pictures_bytes(s)));
fail:
    return rc;
}

static int send_pictures(struct cuda_staged *s, const struct picture_batch *batch, int64_t *slot)
{
    size_t bytes = s->picture_bytes;
    int rc = RETORT_OK;
    TRY(reserve_pictures(s));
    for (int i = 0; i < batch->count; i++) {
        memcpy(s->gathered + (size_t)i * bytes, batch->pixels + (size_t)batch->slot[i] * bytes,
               bytes);
        slot[i] = i;
    }
    TRY_CUDA(cudaMemcpyAsync(s->pictures, s->gathered, (size_t)batch->count * bytes,
                             cudaMemcpyHostToDevice, s->engine->stream));
fail:
    return rc;
}

int cuda_staged_put(struct staged_batch *base, const struct picture_batch *batch,
                    const uint16_t *teacher)
{
    struct cuda_staged *s = staged_of(base);
    int64_t *slot = (int64_t *)((char *)s->copy + SOURCE_BYTES);
    size_t bytes = (size_t)batch->count * sizeof(*slot);
    bool here = batch->count > 0 && !on_device(batch->pixels);
    int rc = RETORT_OK;
    CHECK(batch->count >= 0 && batch->count <= s->max_count);
    TRY_CUDA(cudaEventSynchronize(s->sent)); // what was put before
    if (here)
        TRY(send_pictures(s, batch, slot));
    else
        memcpy(slot, batch->slot, bytes);
    memcpy(slot + s->max_count, batch->sample_id, bytes);
    *s->kept = (struct sample_source){.pixels = here ? s->pictures : batch->pixels,
                                      .teacher = teacher,
                                      .seed = batch->seed,
                                      .augment = batch->augment,
                                      .domain = batch->domain,
                                      .view = batch->view};
    s->count = batch->count;
    TRY_CUDA(cudaMemcpyAsync(s->block, s->copy, block_bytes(s), cudaMemcpyHostToDevice,
                             s->engine->stream));
    TRY_CUDA(cudaEventRecord(s->sent, s->engine->stream));
fail:
    return rc;
}
