#pragma once
// A network engine: a table of functions over whole networks, on one device.
//
// Engines: reference (plain C, double), cpu (oneDNN, f32 or bf16), cuda. An engine owns a queue and
// memory. Calls are asynchronous on the queue where the device has one; engine_synchronize waits.
// Arenas, inputs, logits and stored teacher logits live in engine memory, in the engine's real type
// (`engine_real`); for host engines that is ordinary memory. What changes from step to step is read
// from a struct step_scalars in engine memory when the work runs, so that a captured step replays.
// Work that changes from step to step in nothing else is recorded once and replayed
// (engine_record). Nothing allocates in the step loop. None of this is collective: sums across
// ranks are the worker's. `on_ready` tells it which ranges of the gradient arena are final; a group
// of micro-batches asks it by a callback for what BatchNorm sums over the whole batch.
//
// Return values are retort_codes; the message has been printed.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arith/augment.h"
#include "base/real.h"
#include "models/graph.h"

struct engine;  // opaque: device, queue, threads
struct network; // opaque: one graph on one engine, with its buffers
struct input;   // opaque: a batch of augmented, normalised pictures; networks may share one

struct engine_options {
    const char *device; // "reference", "cpu", "cuda"
    int threads;        // of this rank
    int local_rank;     // picks a GPU
    int64_t precision;  // enum precision_kind, resolved
    bool deterministic;
};

// One step's scalars, in engine memory (engine_alloc), written by engine_upload.
struct step_scalars {
    double lr;
    double ema_decay;     // of this update, warm-up included
    double bias1, bias2;  // AdamW: 1 - beta^t, in double
    double inverse_batch; // 1 / global batch of this step
};

// ---- the device
int engine_open(struct engine **out, const struct engine_options *options);
void engine_close(struct engine **p); // takes NULL
enum real_type engine_real(const struct engine *e);
const char *engine_name(const struct engine *e);
// "AMD EPYC (2 threads, oneDNN 2.6.3, avx512_core)": stored with results. Borrowed.
const char *engine_describe(const struct engine *e);
bool engine_is_deterministic(const struct engine *e); // as it was opened
// The engine's queue where it is a CUDA stream (cudaStream_t): others may queue work on it; else
// NULL. Borrowed.
void *engine_stream(struct engine *e);
// Zero-filled, 64-byte aligned; NULL with a message when there is none.
void *engine_alloc(struct engine *e, size_t bytes);
void engine_free(struct engine *e, void *p);
// For what may as well lie in the host's memory, not zero-filled: NULL, without a message, when it
// would take more than half of the memory that is free now (of a share of it, where `sharers` ranks
// have one GPU), which networks will need, or when the engine works in the host's.
void *engine_alloc_spare(struct engine *e, size_t bytes, int sharers);
int engine_upload(struct engine *e, void *to, const void *from, size_t bytes);   // host -> engine
int engine_download(struct engine *e, void *to, const void *from, size_t bytes); // synchronises
int engine_synchronize(struct engine *e);
// Arena conversions between host f32 (files) and the engine's real type.
int engine_from_f32(struct engine *e, void *to, const float *from, size_t count);
int engine_to_f32(struct engine *e, float *to, const void *from, size_t count);

// ---- pictures
struct picture_format {
    int height, width;
    double mean[3], deviation[3]; // of pixels in [0, 1]
};
// Where a batch's samples come from: rows slot[i] of `pixels` [*, height, width, 3] u8.
struct picture_batch {
    const uint8_t *pixels;    // engine memory
    const int64_t *slot;      // host, [count]
    const int64_t *sample_id; // host, [count]; keys the augmentation
    int count;
    enum augment_kind augment;
    uint64_t seed;
    enum random_domain domain;
    uint32_t view;
    // Where all this has been put before by staged_batch_put: then the input reads it there, but
    // for the count; else NULL. Borrowed.
    const struct staged_batch *staged;
};
int input_create(struct input **out, struct engine *e, const struct picture_format *format,
                 int max_count);
void input_destroy(struct input **p);        // takes NULL
size_t input_memory(const struct input *in); // bytes held
// Crop, flip, normalise (a 3 × 256 table made in double on the host) into the engine's layout.
// digests[count] (host, may be NULL): XXH3-64 of each picture's augmented u8 pixels [H, W, 3].
int input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests);
// Raw values in place of pictures, for tests: host f64 [count, C, H, W].
int input_load_values(struct input *in, const double *values, int count);

// ---- a network
struct network_options {
    int max_batch;    // samples of one forward
    bool training;    // false: forward only, less memory
    const char *plan; // engine plan to use (network_plan's text), or NULL: choose by timing
};
int network_create(struct network **out, struct engine *e, const struct graph *g,
                   const struct network_options *options);
void network_destroy(struct network **p); // takes NULL
// The choices that affect bits (algorithm of each layer), as text; stored in checkpoints and given
// to the other ranks. The caller frees.
int network_plan(const struct network *n, char **out);
// Bytes held: activations, packed weights, workspaces.
size_t network_memory(const struct network *n);

// Takes weights and running statistics from an arena (engine memory, [graph total]); call after
// every update. The arena is read during forward/backward too: it stays alive, unchanged until
// then.
int network_set_weights(struct network *n, const void *arena);
enum forward_mode {
    FORWARD_TRAIN, // BatchNorm by the micro-batch's statistics (a synchronised one too: the
                   // micro-batch is then the whole batch), kept for backward
    FORWARD_EVAL,  // BatchNorm by running statistics
};
int network_forward(struct network *n, const struct input *in, enum forward_mode mode);
// [count, classes] of the last forward, engine memory and real type; valid until the next one.
void *network_logits(struct network *n);

// ---- the loss
enum loss_sum { LOSS_TOTAL, LOSS_CE, LOSS_KD, LOSS_TOP1, LOSS_TOP5, LOSS_SUMS };
struct loss_spec {
    int64_t kind, reduction; // enum distill_kind, enum reduction_kind
    double temperature, alpha, label_smoothing;
    const struct loss_scale *scale; // engine memory; NULL: 1
};
struct loss_targets {
    const int32_t *labels; // engine memory: the split's labels, indexed by sample id
    // Engine memory, f16 [*, classes] indexed by sample id; NULL: no teacher.
    const uint16_t *teacher;
    const int64_t *sample_id; // host, [count]
    int count; // the forward's; after FORWARD_EVAL it may be less: the rows behind are padding
    // Where sample ids and teacher have been put before; else NULL. Borrowed. A teacher there and
    // none here, or the other way round, is a mistake.
    const struct staged_batch *staged;
};
// Dynamic loss scaling (Micikevicius et al. 2018), which fp16 needs, in engine memory: gradients
// are `scale` times what they are, and engine_update divides them again. Where one of them is not
// finite it skips the update and halves the scale; after growth_steps updates without that it
// doubles it. All on the engine's queue: the host need not know. Gradients summed over ranks are
// the same on all, and so is this.
struct loss_scale {
    float scale;                               // a power of two, so that no bit is lost
    int32_t not_finite;                        // found in this step's gradients; 0 between steps
    int64_t growth_steps, good_steps, skipped; // good: since it changed; skipped: updates so far
};
// Loss of the last forward and d loss / d logits, scaled by scalars->inverse_batch so that
// gradients of micro-batches add up. sums[LOSS_SUMS] (engine memory, f64) += sums over rows, not
// yet divided by the batch: LOSS_KD is T² KL (/ classes where elementwise), LOSS_TOTAL is (1 -
// alpha) CE + alpha KD; with kind none or no teacher it is CE, and KD is 0. A FORWARD_EVAL forward
// may be followed by this too (no gradient is kept then).
int network_loss(struct network *n, const struct loss_targets *targets,
                 const struct loss_spec *spec, const struct step_scalars *scalars, double *sums);

// ---- gradients
// Called on the host when [begin, end) of a micro-batch's gradient arena is final for this backward
// (ordered on the engine's queue); a micro-batch's ranges are disjoint and cover [0, total).
struct ready_callback {
    int (*ready)(void *context, int microbatch, size_t begin, size_t end); // of a group; else 0
    void *context;
};
// gradients[total] (engine memory) = d loss / d parameters of this micro-batch; in the statistics'
// range, count / global batch × the mean and unbiased variance it was normalised by. Overwrites.
// `on_ready` may be NULL. A backward that reports is called as it is, for what others queue
// meanwhile is part of it: it is replayed with recorded work that it is in, not by itself.
int network_backward(struct network *n, void *gradients, const struct step_scalars *scalars,
                     const struct ready_callback *on_ready);
// to[i] += from[i], i < count: nodes of the micro-batch tree.
int engine_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type);
// The same on another CUDA stream (cudaStream_t) than the engine's queue. On GPUs alone.
int engine_add_on(struct engine *e, void *stream, void *to, const void *from, size_t count,
                  enum real_type type);
int engine_zero(struct engine *e, void *p, size_t bytes);
// to[i] = from[rows[i]], i < count, of `row_bytes` each; all engine memory, without overlap.
int engine_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                  size_t row_bytes);
// Within engine memory.
int engine_copy(struct engine *e, void *to, const void *from, size_t bytes);

// ---- micro-batches that advance together (norm: batch_sync)
// A synchronised BatchNorm needs sums over the whole batch before any micro-batch may go on. So a
// group holds all micro-batches of a rank at once and leads them through the layers side by side.
// Where a layer needs such sums the engine stops and calls `sum`: what every micro-batch has to add
// is there, and the engine goes on with the total. Where it stops, and what it sums there, is the
// engine's own and the same on all ranks. Between two stops the work is fixed: a segment, which an
// engine may capture once and replay.
struct batch_sum {
    // sums[k][count] (engine memory, f64) is micro-batch k's share, zeros when it is empty. Leaves
    // in sums[0] the total over all micro-batches of all ranks, by the tree; sums[k > 0] may
    // change. Ordered on the engine's queue.
    int (*sum)(void *context, double *const *sums, int microbatches, size_t count);
    void *context;
};
struct network_group; // opaque
// Micro-batch 0 is held by `first`, a training network, and the other count - 1 by networks made
// here, which use first's weights, plan and workspaces and have activations of their own. `first`
// is borrowed and outlives the group; network_set_weights of `first` is for all.
int network_group_create(struct network_group **out, struct network *first, int count,
                         const struct batch_sum *whole);
void network_group_destroy(struct network_group **p); // takes NULL
// The network that holds micro-batch k: for network_logits and network_loss. Borrowed.
struct network *network_group_member(const struct network_group *g, int k);
size_t network_group_memory(const struct network_group *g); // of all members
// FORWARD_TRAIN of every micro-batch, inputs[count].
int network_group_forward(struct network_group *g, const struct input *const *inputs);
// gradients[k] = micro-batch k's, as network_backward's. In each layer one micro-batch comes after
// the other: two may be given one arena if on_ready takes the first one's ranges out of it.
int network_group_backward(struct network_group *g, void *const *gradients,
                           const struct step_scalars *scalars,
                           const struct ready_callback *on_ready);

// ---- the update
struct optimizer_spec {
    int64_t kind; // enum optimizer_kind
    double momentum, weight_decay, beta1, beta2, epsilon;
    bool nesterov;
};
// Engine memory. Weights and gradients are [graph total]. What is updated is their range
// [begin, end), and moments and EMA are of that range alone: their element 0 belongs to element
// `begin`, the last to end - 1, or, of moments, to the last parameter before `end`.
struct arenas {
    void *weights, *gradients, *moment1, *moment2, *ema; // moment2: AdamW only; ema may be NULL
    size_t begin, end;                                   // 0 and graph total: all of it
    struct loss_scale *scale; // of all gradients, engine memory; NULL: 1. GPUs only
};
// One pass over the range: parameters by the optimizer, running statistics by momentum 0.1 towards
// the gradient arena's, then the EMA of both (base/arith/optimizer.h).
int engine_update(struct engine *e, const struct graph *g, const struct arenas *arenas,
                  const struct optimizer_spec *spec, const struct step_scalars *scalars);
// *finite = no NaN or infinity in values[count] (real type).
int engine_all_finite(struct engine *e, const void *values, size_t count, bool *finite);
// Teacher logits of the last forward as f16 into host [count, classes]; RETORT_NUMERIC when a value
// does not fit f16.
int network_logits_f16(struct network *n, uint16_t *out);

// ---- work that repeats
// A training step queues the same things again and again. An engine whose queue can be captured
// runs such work plainly the first time, captures it the second time, and replays it from then on:
// the host calls nothing but the replay. So all that changes from one time to the next is in engine
// memory, put there before: a struct step_scalars, and the samples of each micro-batch.
//
//     engine_upload(e, scalars, …), staged_batch_put(samples, …)      // before each step
//     engine_record(e, &recorded, &key, &work)                        // queues, or replays
//
// with work: input_load, network_forward, network_loss (both with `staged`), network_backward,
// engine_add, engine_zero, engine_update, network_set_weights, collectives that can be captured, on
// the queue and beside it. It waits for nothing, and brings nothing from the host.

// One batch's slots, sample ids, augmentation and teacher in engine memory; and its pictures, where
// those that it is taken from are in the host's.
struct staged_batch; // opaque
// *out is NULL where an engine needs no such thing: it reads the host's memory as it goes.
int staged_batch_create(struct staged_batch **out, struct engine *e,
                        const struct picture_format *format, int max_count);
void staged_batch_destroy(struct staged_batch **p);       // takes NULL
size_t staged_batch_memory(const struct staged_batch *s); // bytes held by the engine; 0 of NULL
// All of `batch` but `staged`; teacher as struct loss_targets has it. What was put before must
// still be there when the work that reads it runs: it is queued in between. NULL: nothing is done.
int staged_batch_put(struct staged_batch *s, const struct picture_batch *batch,
                     const uint16_t *teacher);

// What tells work that is alike from work that is not: the counts of its samples, its addresses,
// whatever else it passes on by value and that may differ between two calls.
enum { RECORD_WORDS = 6 };
struct record_key {
    uint64_t words[RECORD_WORDS];
};
struct record_work {
    int (*queue)(void *context);
    // Where the work has collectives, and ranks must do alike: asked once a key, after a capture
    // and before it is replayed, with whether it went well; returns whether it did on all ranks.
    // May be NULL.
    bool (*everywhere)(void *context, bool captured);
    void *context;
};
struct recorded; // opaque: what was captured, a few keys' at a time
// Queues the work, or what it queued when it was called with this key before. *r begins as NULL.
// Within recorded work, work is recorded no further. Where nothing can be captured, or it failed,
// here or on another rank, work is queued by calling it, every time.
int engine_record(struct engine *e, struct recorded **r, const struct record_key *key,
                  const struct record_work *work);
// Before what the work refers to is freed. Takes NULL.
void recorded_destroy(struct recorded **p);
