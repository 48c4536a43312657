#pragma once
// What an engine supplies: the calls of models/engine.h as a table.
//
// Internal to models/. engine.c dispatches each public call through the table of the object it is
// given. Each engine's own structs begin with the base structs below. The host engines (reference,
// cpu) take all but their network from models/host (HOST_ENGINE_OPS of models/host/host.h).

#include "models/engine.h"

struct engine_ops {
    const char *name; // "reference", "cpu", "cuda"

    void (*close)(struct engine *e);
    enum real_type (*real)(const struct engine *e);
    const char *(*describe)(const struct engine *e);
    void *(*stream)(struct engine *e); // NULL: it has none
    void *(*alloc)(struct engine *e, size_t bytes);
    void *(*alloc_spare)(struct engine *e, size_t bytes, int sharers); // NULL: none ever
    void (*free)(struct engine *e, void *p);
    int (*upload)(struct engine *e, void *to, const void *from, size_t bytes);
    int (*download)(struct engine *e, void *to, const void *from, size_t bytes);
    int (*synchronize)(struct engine *e);
    int (*from_f32)(struct engine *e, void *to, const float *from, size_t count);
    int (*to_f32)(struct engine *e, float *to, const void *from, size_t count);
    int (*add)(struct engine *e, void *to, const void *from, size_t count, enum real_type type);
    // NULL: there are no streams.
    int (*add_on)(struct engine *e, void *stream, void *to, const void *from, size_t count,
                  enum real_type type);
    int (*zero)(struct engine *e, void *p, size_t bytes);
    int (*gather)(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                  size_t row_bytes);
    int (*copy)(struct engine *e, void *to, const void *from, size_t bytes);
    int (*update)(struct engine *e, const struct graph *g, const struct arenas *arenas,
                  const struct optimizer_spec *spec, const struct step_scalars *scalars);
    int (*all_finite)(struct engine *e, const void *values, size_t count, bool *finite);

    // NULL: the host's memory is read as it goes.
    int (*staged_create)(struct staged_batch **out, struct engine *e,
                         const struct picture_format *format, int max_count);
    void (*staged_destroy)(struct staged_batch *s);
    size_t (*staged_memory)(const struct staged_batch *s);
    int (*staged_put)(struct staged_batch *s, const struct picture_batch *batch,
                      const uint16_t *teacher);
    // NULL: nothing is recorded.
    int (*record)(struct engine *e, struct recorded **r, const struct record_key *key,
                  const struct record_work *work);
    void (*recorded_destroy)(struct recorded *r);

    int (*input_create)(struct input **out, struct engine *e, const struct picture_format *format,
                        int max_count);
    void (*input_destroy)(struct input *in);
    size_t (*input_memory)(const struct input *in);
    int (*input_load)(struct input *in, const struct picture_batch *batch, uint64_t *digests);
    int (*input_load_values)(struct input *in, const double *values, int count);

    // With weights_of: a network that shares that one's weights, plan and workspaces.
    int (*network_create)(struct network **out, struct engine *e, const struct graph *g,
                          const struct network_options *options, struct network *weights_of);
    void (*network_destroy)(struct network *n);
    int (*network_plan)(const struct network *n, char **out);
    size_t (*network_memory)(const struct network *n);
    int (*network_set_weights)(struct network *n, const void *arena);
    int (*network_forward)(struct network *n, const struct input *in, enum forward_mode mode);
    void *(*network_logits)(struct network *n);
    int (*network_loss)(struct network *n, const struct loss_targets *targets,
                        const struct loss_spec *spec, const struct step_scalars *scalars,
                        double *sums);
    int (*network_backward)(struct network *n, void *gradients, const struct step_scalars *scalars,
                            const struct ready_callback *on_ready);
    int (*network_logits_f16)(struct network *n, uint16_t *out);

    // Another like `first`, for the same group.
    int (*network_beside)(struct network **out, struct network *first);
    int (*group_forward)(struct network_group *g, const struct input *const *inputs);
    int (*group_backward)(struct network_group *g, void *const *gradients,
                          const struct step_scalars *scalars,
                          const struct ready_callback *on_ready);
};

// The base each engine's own structs begin with. `*_destroy` and `close` free the whole object.
struct engine {
    const struct engine_ops *ops;
    bool deterministic; // as it was opened
};
struct input {
    const struct engine_ops *ops;
};
struct network {
    const struct engine_ops *ops;
    double *sums; // of a training network, engine memory: what a group adds up
};
// The same on all engines (models/network_group.c), which lead it through forward and backward.
struct network_group {
    const struct engine_ops *ops;
    struct network **networks; // owned, [count]; of them the first is borrowed
    double **sums;             // owned, [count]: the networks' own
    int count;
    struct batch_sum whole; // sum NULL: the micro-batches are the whole batch
};
struct staged_batch {
    const struct engine_ops *ops;
};
struct recorded {
    const struct engine_ops *ops;
};

// The engines there are; engine_open picks one by options->device.
int reference_open(struct engine **out, const struct engine_options *options);
int cpu_open(struct engine **out, const struct engine_options *options);
