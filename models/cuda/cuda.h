#pragma once
// The CUDA engine: what its files share.
//
// One engine is one GPU with one stream: every call queues work there and returns, but downloads.
// Arenas, logits and losses are f32 and f64 as on the CPU; activations, packed weights and their
// gradients have the engine's `type` (f32, bf16 or f16), channels innermost (NHWC), padded with
// zeros to a multiple of 8, in memory only. Master weights are the arena's.

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "base/error.h"
#include "models/cuda/kernels/loss.h"
#include "models/cuda/kernels/source.h"
#include "models/engine_ops.h"
#include "models/plugin.h"

#define TRY_CUDA(call)                                                                             \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        TRY_ELSE(status_ == cudaSuccess,                                                           \
                 status_ == cudaErrorMemoryAllocation ? RETORT_MEMORY : RETORT_FAILED,             \
                 "CUDA: %s: %s", #call, cudaGetErrorString(status_));                              \
    } while (0)

struct update_piece;

// A range of a graph's arena in pieces for update. It stays as long as the engine: captured work
// refers to it.
struct update_plan {
    uint64_t layout;             // digest of what the pieces follow from
    struct update_piece *pieces; // owned, device
    size_t count;
    struct update_plan *next; // owned
};

// Faults that kernels find in their input, in device memory: looked at whenever the host waits.
struct cuda_faults {
    struct label_fault label;
    int32_t not_finite; // of all_finite
};

struct cuda_engine {
    struct engine base;
    cudaStream_t stream; // owned
    cudnnHandle_t dnn;   // owned; on the stream
    enum element_type type;
    bool tf32;                        // f32's products may round their factors to tf32
    bool deterministic;               // no algorithm whose bits differ from run to run
    bool eager;                       // no CUDA graphs
    bool recording;                   // within recorded work
    struct cuda_faults *faults;       // owned, device
    struct cuda_faults *faults_seen;  // owned, pinned
    struct update_plan *update_plans; // owned: of the ranges asked for
    char description[384];
};
static inline struct cuda_engine *cuda_engine_of(const struct engine *e)
{
    return (struct cuda_engine *)(uintptr_t)e;
}

// ---- device.c
// The GPU of the node's rank `local_rank`, among those that CUDA_VISIBLE_DEVICES leaves: one after
// the other. RETORT_USAGE with one line that says why there is none to use.
int cuda_pick_device(int local_rank, int *device);
// "CUDA 13.0, cuDNN 9.19.0"
void cuda_libraries(char out[REPORT_TEXT]);
void cuda_report(struct plugin_report *out);

// ---- engine.c
// "f32", "tf32", "bf16", "fp16": of activations and products.
const char *cuda_precision(const struct cuda_engine *e);
// What the plug-in is opened for.
int cuda_open(struct engine **out, const struct engine_options *options);
// Zero-filled device memory into *(void **)out, which is NULL when there is none (RETORT_MEMORY).
// cudaFree frees.
int cuda_memory(struct cuda_engine *e, size_t bytes, void *out);
// Waits for all that is queued, and reports what kernels found wrong.
int cuda_wait(struct cuda_engine *e);

// ---- values.c
int cuda_from_f32(struct engine *e, void *to, const float *from, size_t count);
int cuda_to_f32(struct engine *e, float *to, const void *from, size_t count);
int cuda_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type);
int cuda_add_on(struct engine *e, void *stream, void *to, const void *from, size_t count,
                enum real_type type);
int cuda_zero(struct engine *e, void *p, size_t bytes);
int cuda_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                size_t row_bytes);
int cuda_copy(struct engine *e, void *to, const void *from, size_t bytes);
int cuda_update(struct engine *e, const struct graph *g, const struct arenas *arenas,
                const struct optimizer_spec *spec, const struct step_scalars *scalars);
void cuda_update_plans_free(struct cuda_engine *e);
int cuda_all_finite(struct engine *e, const void *values, size_t count, bool *finite);

// ---- replay.c
// Work that has been captured once a key, and is replayed.
enum { REPLAYS = 8 }; // keys; a new one takes the oldest's place, but see `few`
struct replay {
    struct record_key key;
    int runs;              // so far; the second is captured
    cudaGraphExec_t graph; // owned; NULL: not yet
};
struct replays {
    const char *what; // borrowed: what messages call it
    struct replay all[REPLAYS];
    int next;
    bool few;     // more keys than that: not worth it, it is called from then on
    bool refused; // it could not be captured, or is not worth it: it is called
};
// The work, or what it queued when it was called with this key before. Within other recorded work
// it is just called, for it is captured with that.
int cuda_replay(struct cuda_engine *e, struct replays *r, const struct record_key *key,
                const struct record_work *work);
void cuda_replays_free(struct replays *r);
int cuda_record(struct engine *e, struct recorded **r, const struct record_key *key,
                const struct record_work *work);
void cuda_recorded_destroy(struct recorded *r);

// ---- staged.c
struct cuda_staged {
    struct staged_batch base;
    struct cuda_engine *engine; // borrowed
    size_t picture_bytes;
    int max_count, count; // count: of the last put
    void *block, *copy;   // owned; device, and pinned on the host: the three below, as they follow
    const struct sample_source *source; // device
    const int64_t *slot, *sample_id;    // device, [max_count]
    struct sample_source *kept;         // the source on the host
    uint8_t *pictures, *gathered;       // owned; [max_count] pictures, device and pinned; of those
                                        // that lie in host memory, NULL until there are some
    cudaEvent_t sent;                   // owned: the host's memory may be written again
};
static inline const struct cuda_staged *cuda_staged_of(const struct staged_batch *s)
{
    return (const struct cuda_staged *)s;
}
int cuda_staged_create(struct staged_batch **out, struct engine *e,
                       const struct picture_format *format, int max_count);
void cuda_staged_destroy(struct staged_batch *s);
size_t cuda_staged_memory(const struct staged_batch *s);
int cuda_staged_put(struct staged_batch *s, const struct picture_batch *batch,
                    const uint16_t *teacher);

// ---- input.c
struct cuda_input {
    struct input base;
    struct cuda_engine *engine; // borrowed
    struct picture_format format;
    int max_count, count;        // count: of the last load
    void *values;                // owned; [max_count, height, width, 8], zeros behind `count`
    float *table;                // owned; [3, 256]: pixel value -> normalised value
    uint8_t *augmented;          // owned; [max_count, height, width, 3]; NULL until asked for
    struct staged_batch *staged; // owned: of batches that were not put before
};
static inline const struct cuda_input *cuda_input_of(const struct input *in)
{
    return (const struct cuda_input *)in;
}
int cuda_input_create(struct input **out, struct engine *e, const struct picture_format *format,
                      int max_count);
void cuda_input_destroy(struct input *in);
size_t cuda_input_memory(const struct input *in);
int cuda_input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests);
int cuda_input_load_values(struct input *in, const double *values, int count);
