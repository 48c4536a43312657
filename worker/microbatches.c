#include "worker/microbatches.h"

#include "base/error.h"
#include "base/log.h"

// ---- life

static int create_buffers(struct microbatches *m)
{
    const struct microbatches_options *o = &m->options;
    size_t held = (size_t)m->held, count = (size_t)o->count, rows = (size_t)o->max_batch;
    int rc = RETORT_OK;
    m->inputs = calloc(held, sizeof(struct input *));
    m->leaves = calloc(count, sizeof(void *));
    m->samples = calloc(count, sizeof *m->samples);
    m->staged = calloc(count, sizeof(struct staged_batch *));
    m->sample_id = malloc(count * rows * sizeof *m->sample_id);
    m->slot = malloc(count * rows * sizeof *m->slot);
    TRY_ELSE(m->inputs && m->leaves && m->samples && m->staged && m->sample_id && m->slot,
             RETORT_MEMORY, "no memory for %d micro-batches of %d samples", o->count, o->max_batch);
    for (int k = 0; k < m->held; k++)
        TRY(input_create(&m->inputs[k], o->engine, &o->format, o->max_batch));
    TRY(gradient_tree_init(&m->tree, o->engine, o->graph->total, o->count, o->gradients));
    m->sum = gradient_sum_of(o->comm, o->graph, o->gradients, engine_real(o->engine),
                             o->deterministic, o->sharded);
    for (int k = 0; k < o->count; k++) {
        m->leaves[k] = gradient_tree_leaf(&m->tree, k);
        TRY(staged_batch_create(&m->staged[k], o->engine, &o->format, o->max_batch));
    }
fail:
    return rc;
}

static int sum_statistics(void *context, double *const *sums, int microbatches, size_t count);

int microbatches_init(struct microbatches *m, const struct microbatches_options *options)
{
    struct batch_sum sum = {sum_statistics, m};
    int rc = RETORT_OK;
    CHECK(options->count > 0 && options->max_batch > 0);
    *m = (struct microbatches){
        .options = *options,
        .whole = {options->engine, options->comm, options->deterministic},
        .held = options->synced ? options->count : 1,
    };
    TRY(create_buffers(m));
    if (options->synced)
        TRY(network_group_create(&m->group, options->network, options->count, &sum));
fail:
    return rc;
}

void microbatches_free(struct microbatches *m)
{
    network_group_destroy(&m->group);
    for (int k = 0; m->inputs && k < m->held; k++)
        input_destroy(&m->inputs[k]);
    for (int k = 0; m->staged && k < m->options.count; k++)
        staged_batch_destroy(&m->staged[k]);
    gradient_tree_free(&m->tree);
    free(m->inputs);
    free(m->leaves);
    free(m->samples);
    free(m->staged);
    free(m->sample_id);
    free(m->slot);
    *m = (struct microbatches){0};
}

size_t microbatches_memory(const struct microbatches *m)
{
    size_t bytes = m->group ? network_group_memory(m->group) : network_memory(m->options.network);
    for (int k = 0; k < m->held; k++)
        bytes += input_memory(m->inputs[k]);
    for (int k = 0; k < m->options.count; k++)
        bytes += staged_batch_memory(m->staged[k]);
    return bytes;
}

// ---- where the time goes

// Of the parts that run inside others.
static double inner_seconds(const struct microbatches *m)
{
    return m->seconds[MICROBATCH_TREE] + m->seconds[MICROBATCH_STATISTICS];
}

// For what peers take part in, and for the rest.
static int wait_for_all(struct microbatches *m)
{
    int rc = comm_wait(m->options.comm);
    return rc ? rc : engine_synchronize(m->options.engine);
}

// Runs `call` and adds its time, less what other parts took of it, and without what was queued
// before: that is the time of the part around it.
#define TIMED(m, part, call)                                                                       \
    do {                                                                                           \
        if ((m)->timed)                                                                            \
            TRY(wait_for_all(m));                                                                  \
        double start_ = clock_seconds(), inner_ = inner_seconds(m);                                \
        TRY(call);                                                                                 \
        if ((m)->timed)                                                                            \
            TRY(wait_for_all(m));                                                                  \
        (m)->seconds[part] += clock_seconds() - start_ - (inner_seconds(m) - inner_);              \
    } while (0)

static int sum_statistics(void *context, double *const *sums, int microbatches, size_t count)
{
    struct microbatches *m = context;
    int rc = RETORT_OK;
    TIMED(m, MICROBATCH_STATISTICS, whole_batch_sum(&m->whole, sums, microbatches, count));
fail:
    return rc;
}

// [begin, end) of micro-batch k's gradients is there. With the last one's, this rank's sum is.
static int add_range(void *context, int k, size_t begin, size_t end)
{
    struct microbatches *m = context;
    int rc = RETORT_OK;
    if (m->options.count > 1)
        TIMED(m, MICROBATCH_TREE, gradient_tree_add(&m->tree, k, begin, end));
    if (k == m->options.count - 1)
        TRY(gradient_sum_ready(&m->sum, begin));
fail:
    return rc;
}

// Of a network alone, with the last micro-batch. Whole buckets: a layer's few gradients would take
// as long to add.
static int add_bucket(void *context, int microbatch, size_t begin, size_t end)
{
    struct microbatches *m = context;
    size_t from, to;
    int rc = RETORT_OK;
    (void)microbatch;
    (void)end;
    while (gradient_sum_due(&m->sum, begin, &from, &to))
        TRY(add_range(m, m->options.count - 1, from, to));
fail:
    return rc;
}

// ---- the step

static int64_t *ids_of(const struct microbatches *m, int k)
{
    return m->sample_id + (int64_t)k * m->options.max_batch;
}

static int64_t *slots_of(const struct microbatches *m, int k)
{
    return m->slot + (int64_t)k * m->options.max_batch;
}

static struct picture_batch pictures_of(const struct microbatches *m,
                                        const struct microbatch_step *s, int k)
{
    struct picture_batch pictures = s->pictures;
    pictures.slot = slots_of(m, k);
    pictures.sample_id = ids_of(m, k);
    pictures.count = m->samples[k];
    return pictures;
}

static int prepare(struct microbatches *m, const struct microbatch_step *s, int k)
{
    int rc = RETORT_OK;
    TRY(s->samples(s->context, k, ids_of(m, k), slots_of(m, k), &m->samples[k]));
    const struct picture_batch pictures = pictures_of(m, s, k);
    TIMED(m, MICROBATCH_AUGMENT, staged_batch_put(m->staged[k], &pictures, s->targets.teacher));
fail:
    return rc;
}

int microbatches_prepare(struct microbatches *m, const struct microbatch_step *step)
{
    int rc = RETORT_OK;
    for (int k = 0; k < m->options.count; k++)
        TRY(prepare(m, step, k));
fail:
    return rc;
}

// Micro-batch k into the place `at` of those that are held.
static int load(struct microbatches *m, const struct microbatch_step *s, int k, int at)
{
    struct picture_batch pictures = pictures_of(m, s, k);
    int rc = RETORT_OK;
    pictures.staged = m->staged[k];
    TIMED(m, MICROBATCH_AUGMENT, input_load(m->inputs[at], &pictures, NULL));
fail:
    return rc;
}

static int loss(struct microbatches *m, const struct microbatch_step *s, int k,
                struct network *network)
{
    struct loss_targets targets = s->targets;
    int rc = RETORT_OK;
    targets.sample_id = ids_of(m, k);
    targets.count = m->samples[k];
    targets.staged = m->staged[k];
    TIMED(m, MICROBATCH_LOSS, network_loss(network, &targets, &s->loss, s->scalars, s->sums));
fail:
    return rc;
}

static int backward(struct microbatches *m, const struct microbatch_step *s, int k)
{
    const struct ready_callback ready = {add_bucket, m};
    const bool buckets = m->sum.buckets > 0 && k == m->options.count - 1;
    int rc = RETORT_OK;
    TIMED(m, MICROBATCH_BACKWARD,
          network_backward(m->options.network, m->leaves[k], s->scalars, buckets ? &ready : NULL));
    if (!buckets)
        TRY(add_range(m, k, 0, m->options.graph->total));
fail:
    return rc;
}

static int one_by_one(struct microbatches *m, const struct microbatch_step *s)
{
    struct network *n = m->options.network;
    int rc = RETORT_OK;
    for (int k = 0; k < m->options.count; k++) {
        TRY(load(m, s, k, 0));
        TIMED(m, MICROBATCH_FORWARD, network_forward(n, m->inputs[0], FORWARD_TRAIN));
        TRY(loss(m, s, k, n));
        TRY(backward(m, s, k));
    }
fail:
    return rc;
}

static int side_by_side(struct microbatches *m, const struct microbatch_step *s)
{
    const struct input *const *inputs = (const struct input *const *)m->inputs;
    struct ready_callback ready = {add_range, m};
    int rc = RETORT_OK;
    for (int k = 0; k < m->held; k++)
        TRY(load(m, s, k, k));
    TIMED(m, MICROBATCH_FORWARD, network_group_forward(m->group, inputs));
    for (int k = 0; k < m->held; k++)
        TRY(loss(m, s, k, network_group_member(m->group, k)));
    TIMED(m, MICROBATCH_BACKWARD, network_group_backward(m->group, m->leaves, s->scalars, &ready));
fail:
    return rc;
}

int microbatches_gradients(struct microbatches *m, const struct microbatch_step *step)
{
    int rc = RETORT_OK;
    gradient_sum_begin(&m->sum);
    TRY(m->group ? side_by_side(m, step) : one_by_one(m, step));
    TIMED(m, MICROBATCH_SUM, gradient_sum_finish(&m->sum));
fail:
    return rc;
}
