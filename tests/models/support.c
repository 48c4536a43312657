#include "tests/models/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"

double test_uniform(uint64_t seed, uint64_t index)
{
    return 2.0 * random_unit(random_draw(seed, RANDOM_SYNTH, 0, index).v[0]) - 1.0;
}

struct engine *host_only_engine(struct host_engine *e, enum real_type real, int threads)
{
    static const struct engine_ops ops = {.name = "host", HOST_ENGINE_OPS};
    host_engine_init(e, &ops, real, threads, "test");
    return &e->base;
}

size_t bench_bytes(const struct bench *b)
{
    return b->graph->total * real_bytes(engine_real(b->engine));
}

static bool is_wide(const struct bench *b)
{
    return engine_real(b->engine) == REAL_F64;
}

static void fill_weights(struct bench *b, uint64_t seed)
{
    const struct graph *g = b->graph;
    graph_init_weights(g, INIT_KAIMING_NORMAL, seed, b->narrow);
    for (size_t i = 0; i < g->total; i++)
        b->weights[i] = (double)b->narrow[i];
    for (int i = 0; i < g->param_count; i++)
        if (g->params[i].role != PARAM_WEIGHT)
            for (size_t k = 0; k < g->params[i].count; k++) {
                size_t at = g->params[i].offset + k;
                b->weights[at] += 0.3 * test_uniform(seed + 1, at);
            }
}

void bench_pictures(struct bench *b, const double *values, int count)
{
    assert_true(count <= TEST_MAX_BATCH);
    assert_int_equal(input_load_values(b->input, values, count), 0);
    b->count = count;
    b->scalars.inverse_batch = count > 0 ? 1.0 / count : 1.0;
}

void bench_random_pictures(struct bench *b, int count, uint64_t seed)
{
    const struct node *picture = &b->graph->nodes[0];
    size_t elements = (size_t)count * picture->channels * picture->height * picture->width;
    double *values = malloc((elements + 1) * sizeof(*values));
    assert_non_null(values);
    for (size_t i = 0; i < elements; i++)
        values[i] = 1.5 * test_uniform(seed, i);
    bench_pictures(b, values, count);
    free(values);
}

static struct engine_options device_options(const char *device, int threads, int64_t precision)
{
    bool wide = strcmp(device, "reference") == 0;
    return (struct engine_options){.device = device,
                                   .threads = threads,
                                   .precision = precision != 0 ? precision
                                                : wide         ? PRECISION_F64
                                                               : PRECISION_F32,
                                   .deterministic = true};
}

bool bench_has_device(const char *device)
{
    struct engine_options options = device_options(device, 1, 0);
    struct engine *e;
    int rc = engine_open(&e, &options);
    engine_close(&e);
    return rc == RETORT_OK;
}

void bench_open_on(struct bench *b, const struct bench_options *o, struct graph *graph, int count,
                   uint64_t seed)
{
    struct engine_options device = device_options(o->device, o->threads, o->precision);
    struct network_options options = {
        .max_batch = o->max_batch, .training = !o->evaluates, .plan = o->plan};
    struct picture_format format = {.height = graph->nodes[0].height,
                                    .width = graph->nodes[0].width,
                                    .mean = {0.5, 0.5, 0.5},
                                    .deviation = {0.25, 0.25, 0.25}};
    *b = (struct bench){.graph = graph};
    assert_int_equal(engine_open(&b->engine, &device), 0);
    assert_int_equal(input_create(&b->input, b->engine, &format, o->max_batch), 0);
    assert_int_equal(network_create(&b->network, b->engine, graph, &options), 0);
    b->arena = engine_alloc(b->engine, bench_bytes(b));
    b->gradient_arena = engine_alloc(b->engine, bench_bytes(b));
    b->on_engine.labels = engine_alloc(b->engine, sizeof(b->labels));
    b->on_engine.sums = engine_alloc(b->engine, sizeof(b->sums));
    b->on_engine.scalars = engine_alloc(b->engine, sizeof(b->scalars));
    b->on_engine.teacher =
        engine_alloc(b->engine, TEST_MAX_BATCH * (size_t)graph->classes * sizeof(uint16_t));
    assert_true(b->on_engine.labels && b->on_engine.sums && b->on_engine.scalars &&
                b->on_engine.teacher);
    b->weights = calloc(graph->total, sizeof(double));
    b->gradients = calloc(graph->total, sizeof(double));
    b->narrow = calloc(graph->total, sizeof(float));
    assert_true(b->arena && b->gradient_arena && b->weights && b->gradients && b->narrow);
    fill_weights(b, seed);
    for (int i = 0; i < TEST_MAX_BATCH; i++) {
        b->ids[i] = i;
        b->labels[i] = (i * 7 + 1) % graph->classes;
    }
    bench_random_pictures(b, count, seed + 2);
}

void bench_open(struct bench *b, struct graph *graph, int count, uint64_t seed)
{
    static const struct bench_options REFERENCE = {
        .device = "reference", .threads = 1, .max_batch = 8};
    bench_open_on(b, &REFERENCE, graph, count, seed);
}

void bench_close(struct bench *b)
{
    engine_free(b->engine, b->arena);
    engine_free(b->engine, b->gradient_arena);
    engine_free(b->engine, b->on_engine.labels);
    engine_free(b->engine, b->on_engine.sums);
    engine_free(b->engine, b->on_engine.scalars);
    engine_free(b->engine, b->on_engine.teacher);
    free(b->weights);
    free(b->gradients);
    free(b->narrow);
    network_destroy(&b->network);
    input_destroy(&b->input);
    engine_close(&b->engine);
    graph_destroy(&b->graph);
}

void bench_set_weights(struct bench *b)
{
    size_t count = b->graph->total;
    if (is_wide(b)) {
        assert_int_equal(engine_upload(b->engine, b->arena, b->weights, count * sizeof(double)), 0);
    } else {
        for (size_t i = 0; i < count; i++)
            b->narrow[i] = (float)b->weights[i];
        assert_int_equal(engine_from_f32(b->engine, b->arena, b->narrow, count), 0);
    }
    assert_int_equal(network_set_weights(b->network, b->arena), 0);
}

// Of the teacher's logits, which sample ids look up.
static size_t rows_asked_for(const struct bench *b)
{
    int64_t rows = 0;
    for (int i = 0; i < b->count; i++)
        if (b->ids[i] >= rows)
            rows = b->ids[i] + 1;
    assert_true(rows <= TEST_MAX_BATCH);
    return (size_t)rows;
}

double bench_loss(struct bench *b, enum forward_mode mode)
{
    struct engine *e = b->engine;
    struct loss_targets targets = {
        .labels = b->on_engine.labels, .sample_id = b->ids, .count = b->count};
    if (b->teacher != NULL) {
        targets.teacher = b->on_engine.teacher;
        assert_int_equal(engine_upload(e, b->on_engine.teacher, b->teacher,
                                       rows_asked_for(b) * b->graph->classes * sizeof(uint16_t)),
                         0);
    }
    assert_int_equal(engine_upload(e, b->on_engine.labels, b->labels, sizeof(b->labels)), 0);
    assert_int_equal(engine_upload(e, b->on_engine.scalars, &b->scalars, sizeof(b->scalars)), 0);
    assert_int_equal(engine_zero(e, b->on_engine.sums, sizeof(b->sums)), 0);
    bench_set_weights(b);
    assert_int_equal(network_forward(b->network, b->input, mode), 0);
    assert_int_equal(
        network_loss(b->network, &targets, &b->loss, b->on_engine.scalars, b->on_engine.sums), 0);
    assert_int_equal(engine_download(e, b->sums, b->on_engine.sums, sizeof(b->sums)), 0);
    return b->sums[LOSS_TOTAL] * b->scalars.inverse_batch;
}

double bench_real(const struct bench *b, const void *values, size_t i)
{
    double wide;
    float narrow;
    if (is_wide(b)) {
        assert_int_equal(
            engine_download(b->engine, &wide, (const double *)values + i, sizeof(wide)), 0);
        return wide;
    }
    assert_int_equal(engine_download(b->engine, &narrow, (const float *)values + i, sizeof(narrow)),
                     0);
    return (double)narrow;
}

void bench_take(const struct bench *b, double *to, const void *values, size_t count)
{
    assert_true(count <= b->graph->total);
    if (is_wide(b)) {
        assert_int_equal(engine_download(b->engine, to, values, count * sizeof(*to)), 0);
        return;
    }
    assert_int_equal(engine_to_f32(b->engine, b->narrow, values, count), 0);
    for (size_t i = 0; i < count; i++)
        to[i] = (double)b->narrow[i];
}

double bench_step(struct bench *b)
{
    double loss = bench_loss(b, FORWARD_TRAIN);
    assert_int_equal(network_backward(b->network, b->gradient_arena, b->on_engine.scalars, NULL),
                     0);
    bench_take(b, b->gradients, b->gradient_arena, b->graph->total);
    return loss;
}

double bench_logit(const struct bench *b, size_t i)
{
    return bench_real(b, network_logits(b->network), i);
}

double test_difference(const double *a, const double *b, size_t count)
{
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0.0 ? sqrt(error / norm) : sqrt(error);
}

void bench_check_logits_alike(const struct bench *b, const struct bench *expected, double limit)
{
    size_t count = (size_t)b->count * b->graph->classes;
    double *ours = malloc((count + 1) * sizeof(double)),
           *theirs = malloc((count + 1) * sizeof(double));
    assert_true(ours && theirs);
    for (size_t i = 0; i < count; i++) {
        ours[i] = bench_logit(b, i);
        theirs[i] = bench_logit(expected, i);
    }
    double apart = test_difference(ours, theirs, count);
    if (!(apart <= limit))
        fail_msg("%s: logits are %.3g apart", b->graph->arch, apart);
    free(ours);
    free(theirs);
}

void bench_check_alike(struct bench *b, struct bench *expected, double limit)
{
    bench_step(b);
    bench_step(expected);
    bench_check_logits_alike(b, expected, limit);
    for (int i = 0; i < b->graph->param_count; i++) {
        const struct param *p = &b->graph->params[i];
        // Where another BatchNorm follows, a shift moves the loss by what borders leave of it: its
        // gradient is the rest of a sum that cancels, and is measured by the layer's, scale and
        // shift together.
        const struct param *first = p->role == PARAM_BETA ? p - 1 : p;
        double apart =
            test_difference(b->gradients + first->offset, expected->gradients + first->offset,
                            p->offset + p->count - first->offset);
        if (!(apart <= limit))
            fail_msg("%s: %s is %.3g apart", b->graph->arch, p->name, apart);
    }
    bench_loss(b, FORWARD_EVAL);
    bench_loss(expected, FORWARD_EVAL);
    bench_check_logits_alike(b, expected, limit);
}

// The loss's slope where elements [0, count) of w move by direction; the error of the third
// derivative is far below rounding, and so small a step rarely carries a unit over ReLU's kink.
static double slope(struct bench *b, double *w, const double *direction, size_t count)
{
    const double step = 2e-6;
    double loss[2];
    for (int side = 0; side < 2; side++) {
        double move = side == 0 ? -step : step;
        double *kept = malloc((count + 1) * sizeof(*kept));
        assert_non_null(kept);
        memcpy(kept, w, count * sizeof(*kept));
        for (size_t i = 0; i < count; i++)
            w[i] += move * direction[i];
        loss[side] = bench_loss(b, FORWARD_TRAIN);
        memcpy(w, kept, count * sizeof(*kept));
        free(kept);
    }
    return (loss[1] - loss[0]) / (2.0 * step);
}

static void check_close(const struct param *p, double measured, double computed, double scale)
{
    if (fabs(measured - computed) > 1e-6 * (fabs(computed) + scale))
        fail_msg("%s: %.12g by differences, %.12g by backward, scale %g", p->name, measured,
                 computed, scale);
}

static void check_param(struct bench *b, const struct param *p, const double *gradient, int singles)
{
    double *w = b->weights + p->offset, squares = 0.0;
    double *direction = calloc(p->count, sizeof(*direction));
    assert_non_null(direction);
    for (size_t i = 0; i < p->count; i++)
        squares += gradient[i] * gradient[i];
    double rms = sqrt(squares / (double)p->count);
    assert_true(rms > 1e-6);
    for (int trial = 0; trial < 2; trial++) {
        double computed = 0.0;
        for (size_t i = 0; i < p->count; i++) {
            double sign = test_uniform(90 + trial, p->offset + i) < 0.0 ? -1.0 : 1.0;
            direction[i] = sign / sqrt((double)p->count);
            computed += direction[i] * gradient[i];
        }
        check_close(p, slope(b, w, direction, p->count), computed, rms);
    }
    for (int k = 0; k < singles; k++) {
        size_t i =
            random_below(random_draw(5, RANDOM_SYNTH, 1, p->offset + k).v[0], (uint32_t)p->count);
        double one = 1.0;
        check_close(p, slope(b, w + i, &one, 1), gradient[i], rms);
    }
    free(direction);
}

void bench_check_gradients(struct bench *b, int singles)
{
    const struct graph *g = b->graph;
    bench_step(b);
    for (int i = 0; i < g->param_count; i++)
        if (g->params[i].offset < g->trainable)
            check_param(b, &g->params[i], b->gradients + g->params[i].offset, singles);
}

void bench_open_identity(struct bench *b, const char *device, int classes, int count)
{
    struct bench_options options = {.device = device, .threads = 1, .max_batch = 8};
    struct graph *g;
    assert_int_equal(classes % 3, 0);
    assert_int_equal(graph_begin(&g, "identity", 3, 1, classes / 3), 0);
    assert_int_equal(graph_add_linear(g, "fc", classes), 0);
    assert_int_equal(graph_finish(g), 0);
    bench_open_on(b, &options, g, count, 1);
    memset(b->weights, 0, g->total * sizeof(double));
    for (int c = 0; c < classes; c++)
        b->weights[c * (classes + 1)] = 1.0;
}
