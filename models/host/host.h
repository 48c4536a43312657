#pragma once
// What the engines on ordinary memory share: memory, pictures, loss, update.
//
// An engine here supplies its network (create, destroy, plan, memory, set_weights, and its layers
// as a struct host_layers) and its open; HOST_ENGINE_OPS fills in the rest of its table. Calls run
// on the calling thread and are done when they return; `threads` OpenMP threads share element-wise
// work, whose bits do not depend on their number.
//
// A host engine's open:
//     struct cpu_engine *e = calloc(1, sizeof(*e));      // begins with struct host_engine
//     host_engine_init(&e->host, &cpu_ops, REAL_F32, options->threads, "oneDNN 2.6.3,
//     avx512_core"); *out = &e->host.base;
// its network begins with struct host_network.

#include "models/engine_ops.h"

struct host_engine {
    struct engine base;
    enum real_type real; // of arenas, inputs and logits
    int threads;
    char description[160]; // "AMD EPYC (2 threads, <detail>)"
};

// Fills every field; `detail` names what computes ("oneDNN 2.6.3, avx512_core").
void host_engine_init(struct host_engine *e, const struct engine_ops *ops, enum real_type real,
                      int threads, const char *detail);
static inline struct host_engine *host_engine_of(const struct engine *e)
{
    return (struct host_engine *)(uintptr_t)e;
}

struct host_input {
    struct input base;
    struct host_engine *engine; // borrowed
    struct picture_format format;
    int max_count, count; // count: of the last load
    void *values;         // owned; [max_count, 3, height, width], engine's real type
    void *table;          // owned; [3, 256]: pixel value -> normalised value, real type
    uint8_t *scratch;     // owned; augmented u8 pixels, a picture for each thread
};
static inline const struct host_input *host_input_of(const struct input *in)
{
    return (const struct host_input *)in;
}

struct host_network;
enum host_pass { HOST_FORWARD, HOST_BACKWARD };

// A network as a row of layers, for group.c to lead one or several networks through. None of the
// calls but `sums` and `totals` is made for a micro-batch without samples.
struct host_layers {
    int (*forward_begin)(struct host_network *n, const struct host_input *in);
    int (*forward)(struct host_network *n, int layer);
    // Fills the statistics' range of `gradients`: share × (mean | unbiased variance).
    int (*backward_begin)(struct host_network *n, double share, void *gradients);
    // The gradients (=) of the layer's parameters, and of what it reads.
    int (*backward)(struct host_network *n, int layer, void *gradients);
    // The first of the layer's parameters; NULL when it has none.
    const struct param *(*param)(const struct host_network *n, int layer);
    // Synchronised layers: before a training pass through the layer, fills sums[] with what this
    // micro-batch adds to sums over the whole batch, and takes the totals. `stop` counts from 0
    // until there is nothing to sum: returns how many sums there are, with the same answer for all
    // networks of a graph.
    size_t (*sums)(struct host_network *n, int layer, enum host_pass pass, int stop, double *sums);
    void (*totals)(struct host_network *n, int layer, enum host_pass pass, int stop,
                   const double *totals);
};

// What the shared code needs of a network. The engine's create sets graph, engine, training, layers
// and the buffers; group.c sets count and mode and clears has_loss.
struct host_network {
    struct network base;
    struct host_engine *engine; // borrowed
    const struct host_layers *layers;
    int layer_count;
    const struct graph *graph; // borrowed; outlives the network
    bool training;
    int max_batch;
    int count;              // of the last forward
    enum forward_mode mode; // of the last forward
    bool has_loss;          // network_loss has filled logit_gradients since the last forward
    void *logits;           // [max_batch, classes], real type, plain rows
    void *logit_gradients;  // [max_batch, classes], real type; NULL unless training
};
static inline struct host_network *host_network_of(const struct network *n)
{
    return (struct host_network *)(uintptr_t)n;
}
// Room for base.sums, of any BatchNorm of the graph: two a channel, and the samples.
size_t host_sums_most(const struct graph *g);

// ---- the shared calls (models/engine.h says what each does)
enum real_type host_real(const struct engine *e);
const char *host_describe(const struct engine *e);
void *host_alloc(struct engine *e, size_t bytes);
void host_free(struct engine *e, void *p);
int host_copy(struct engine *e, void *to, const void *from, size_t bytes);
int host_synchronize(struct engine *e);
int host_from_f32(struct engine *e, void *to, const float *from, size_t count);
int host_to_f32(struct engine *e, float *to, const void *from, size_t count);
int host_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type);
int host_zero(struct engine *e, void *p, size_t bytes);
int host_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                size_t row_bytes);
int host_update(struct engine *e, const struct graph *g, const struct arenas *arenas,
                const struct optimizer_spec *spec, const struct step_scalars *scalars);
int host_all_finite(struct engine *e, const void *values, size_t count, bool *finite);
int host_input_create(struct input **out, struct engine *e, const struct picture_format *format,
                      int max_count);
void host_input_destroy(struct input *in);
size_t host_input_memory(const struct input *in);
int host_input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests);
int host_input_load_values(struct input *in, const double *values, int count);
void *host_network_logits(struct network *n);
int host_network_loss(struct network *n, const struct loss_targets *targets,
                      const struct loss_spec *spec, const struct step_scalars *scalars,
                      double *sums);
int host_network_logits_f16(struct network *n, uint16_t *out);
int host_network_forward(struct network *n, const struct input *in, enum forward_mode mode);
int host_network_backward(struct network *n, void *gradients, const struct step_scalars *scalars,
                          const struct ready_callback *on_ready);
int host_network_beside(struct network **out, struct network *first);
int host_group_forward(struct network_group *g, const struct input *const *inputs);
int host_group_backward(struct network_group *g, void *const *gradients,
                        const struct step_scalars *scalars, const struct ready_callback *on_ready);

#define HOST_ENGINE_OPS                                                                            \
    .real = host_real, .describe = host_describe, .alloc = host_alloc, .free = host_free,          \
    .upload = host_copy, .download = host_copy, .synchronize = host_synchronize,                   \
    .from_f32 = host_from_f32, .to_f32 = host_to_f32, .add = host_add, .zero = host_zero,          \
    .gather = host_gather, .copy = host_copy, .update = host_update,                               \
    .all_finite = host_all_finite, .input_create = host_input_create,                              \
    .input_destroy = host_input_destroy, .input_memory = host_input_memory,                        \
    .input_load = host_input_load, .input_load_values = host_input_load_values,                    \
    .network_logits = host_network_logits, .network_loss = host_network_loss,                      \
    .network_logits_f16 = host_network_logits_f16, .network_forward = host_network_forward,        \
    .network_backward = host_network_backward, .network_beside = host_network_beside,              \
    .group_forward = host_group_forward, .group_backward = host_group_backward

// ---- helpers of host engines
// A cache line's alignment, zero-filled; NULL without a message when there is none. free() frees.
void *host_calloc(size_t bytes);
// Calls work(context, part, begin, end) on at most `threads` threads, part < threads, over [0,
// count) cut in equal parts that are multiples of `grain` items (the last one may be shorter).
void host_parallel(int threads, size_t count, size_t grain,
                   void (*work)(void *context, int part, size_t begin, size_t end), void *context);
// "AMD EPYC", from /proc/cpuinfo.
void host_processor(char *out, size_t out_bytes);
