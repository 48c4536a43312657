#include "models/engine.h"

#include <string.h>

#include "base/error.h"
#include "models/engine_ops.h"
#include "models/plugin.h"

#ifdef RETORT_HAVE_CPU_ENGINE
#define DEVICES "cpu, cuda, reference"
#else
#define DEVICES "cuda, reference"
#endif

static int open_device(struct engine **out, const struct engine_options *options)
{
    if (strcmp(options->device, "reference") == 0)
        return reference_open(out, options);
#ifdef RETORT_HAVE_CPU_ENGINE
    if (strcmp(options->device, "cpu") == 0)
        return cpu_open(out, options);
#endif
    if (plugin_is(options->device))
        return plugin_open(out, options);
    return FAIL(RETORT_USAGE, "this build has no device \"%s\"; it has " DEVICES, options->device);
}

int engine_open(struct engine **out, const struct engine_options *options)
{
    *out = NULL;
    int rc = open_device(out, options);
    if (rc == RETORT_OK)
        (*out)->deterministic = options->deterministic;
    return rc;
}

void engine_close(struct engine **p)
{
    if (*p == NULL)
        return;
    (*p)->ops->close(*p);
    *p = NULL;
}

enum real_type engine_real(const struct engine *e)
{
    return e->ops->real(e);
}

const char *engine_name(const struct engine *e)
{
    return e->ops->name;
}

const char *engine_describe(const struct engine *e)
{
    return e->ops->describe(e);
}

bool engine_is_deterministic(const struct engine *e)
{
    return e->deterministic;
}

void *engine_stream(struct engine *e)
{
    return e->ops->stream != NULL ? e->ops->stream(e) : NULL;
}

void *engine_alloc(struct engine *e, size_t bytes)
{
    return e->ops->alloc(e, bytes);
}

void engine_free(struct engine *e, void *p)
{
    e->ops->free(e, p);
}

void *engine_alloc_spare(struct engine *e, size_t bytes, int sharers)
{
    return e->ops->alloc_spare != NULL ? e->ops->alloc_spare(e, bytes, sharers) : NULL;
}

int engine_upload(struct engine *e, void *to, const void *from, size_t bytes)
{
    return e->ops->upload(e, to, from, bytes);
}

int engine_download(struct engine *e, void *to, const void *from, size_t bytes)
{
    return e->ops->download(e, to, from, bytes);
}

int engine_synchronize(struct engine *e)
{
    return e->ops->synchronize(e);
}

int engine_from_f32(struct engine *e, void *to, const float *from, size_t count)
{
    return e->ops->from_f32(e, to, from, count);
}

int engine_to_f32(struct engine *e, float *to, const void *from, size_t count)
{
    return e->ops->to_f32(e, to, from, count);
}

int engine_add(struct engine *e, void *to, const void *from, size_t count, enum real_type type)
{
    return e->ops->add(e, to, from, count, type);
}

int engine_add_on(struct engine *e, void *stream, void *to, const void *from, size_t count,
                  enum real_type type)
{
    CHECK(e->ops->add_on != NULL);
    return e->ops->add_on(e, stream, to, from, count, type);
}

int engine_zero(struct engine *e, void *p, size_t bytes)
{
    return e->ops->zero(e, p, bytes);
}

int engine_copy(struct engine *e, void *to, const void *from, size_t bytes)
{
    return e->ops->copy(e, to, from, bytes);
}

int engine_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                  size_t row_bytes)
{
    return e->ops->gather(e, to, from, rows, count, row_bytes);
}

int engine_update(struct engine *e, const struct graph *g, const struct arenas *arenas,
                  const struct optimizer_spec *spec, const struct step_scalars *scalars)
{
    return e->ops->update(e, g, arenas, spec, scalars);
}

int engine_all_finite(struct engine *e, const void *values, size_t count, bool *finite)
{
    return e->ops->all_finite(e, values, count, finite);
}

int input_create(struct input **out, struct engine *e, const struct picture_format *format,
                 int max_count)
{
    *out = NULL;
    return e->ops->input_create(out, e, format, max_count);
}

void input_destroy(struct input **p)
{
    if (*p == NULL)
        return;
    (*p)->ops->input_destroy(*p);
    *p = NULL;
}

size_t input_memory(const struct input *in)
{
    return in->ops->input_memory(in);
}

int input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests)
{
    return in->ops->input_load(in, batch, digests);
}

int input_load_values(struct input *in, const double *values, int count)
{
    return in->ops->input_load_values(in, values, count);
}

int network_create(struct network **out, struct engine *e, const struct graph *g,
                   const struct network_options *options)
{
    *out = NULL;
    return e->ops->network_create(out, e, g, options, NULL);
}

void network_destroy(struct network **p)
{
    if (*p == NULL)
        return;
    (*p)->ops->network_destroy(*p);
    *p = NULL;
}

int network_plan(const struct network *n, char **out)
{
    return n->ops->network_plan(n, out);
}

size_t network_memory(const struct network *n)
{
    return n->ops->network_memory(n);
}

int network_set_weights(struct network *n, const void *arena)
{
    return n->ops->network_set_weights(n, arena);
}

int network_forward(struct network *n, const struct input *in, enum forward_mode mode)
{
    return n->ops->network_forward(n, in, mode);
}

void *network_logits(struct network *n)
{
    return n->ops->network_logits(n);
}

int network_loss(struct network *n, const struct loss_targets *targets,
                 const struct loss_spec *spec, const struct step_scalars *scalars, double *sums)
{
    return n->ops->network_loss(n, targets, spec, scalars, sums);
}

int network_backward(struct network *n, void *gradients, const struct step_scalars *scalars,
                     const struct ready_callback *on_ready)
{
    return n->ops->network_backward(n, gradients, scalars, on_ready);
}

int network_logits_f16(struct network *n, uint16_t *out)
{
    return n->ops->network_logits_f16(n, out);
}

int staged_batch_create(struct staged_batch **out, struct engine *e,
                        const struct picture_format *format, int max_count)
{
    *out = NULL;
    return e->ops->staged_create != NULL ? e->ops->staged_create(out, e, format, max_count)
                                         : RETORT_OK;
}

void staged_batch_destroy(struct staged_batch **p)
{
    if (*p == NULL)
        return;
    (*p)->ops->staged_destroy(*p);
    *p = NULL;
}

size_t staged_batch_memory(const struct staged_batch *s)
{
    return s != NULL ? s->ops->staged_memory(s) : 0;
}

int staged_batch_put(struct staged_batch *s, const struct picture_batch *batch,
                     const uint16_t *teacher)
{
    return s != NULL ? s->ops->staged_put(s, batch, teacher) : RETORT_OK;
}

int engine_record(struct engine *e, struct recorded **r, const struct record_key *key,
                  const struct record_work *work)
{
    return e->ops->record != NULL ? e->ops->record(e, r, key, work) : work->queue(work->context);
}

void recorded_destroy(struct recorded **p)
{
    if (*p == NULL)
        return;
    (*p)->ops->recorded_destroy(*p);
    *p = NULL;
}
