#include "tests/models/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static void fill_arena(struct bench *b, uint64_t seed)
{
    const struct graph *g = b->graph;
    float *initial = malloc(g->total * sizeof(*initial));
    assert_non_null(initial);
    graph_init_weights(g, INIT_KAIMING_NORMAL, seed, initial);
    assert_int_equal(engine_from_f32(b->engine, b->weights, initial, g->total), 0);
    for (int i = 0; i < g->param_count; i++)
        if (g->params[i].role != PARAM_WEIGHT)
            for (size_t k = 0; k < g->params[i].count; k++) {
                size_t at = g->params[i].offset + k;
                b->weights[at] += 0.3 * test_uniform(seed + 1, at);
            }
    free(initial);
}

void bench_pictures(struct bench *b, const double *values, int count)
{
    assert_true(count <= TEST_MAX_BATCH);
    assert_int_equal(input_load_values(b->input, values, count), 0);
    b->count = count;
    b->scalars.inverse_batch = count > 0 ? 1.0 / count : 1.0;
}

void bench_open(struct bench *b, struct graph *graph, int count, uint64_t seed)
{
    struct engine_options engine_options = {
        .device = "reference", .threads = 1, .precision = PRECISION_F64};
    struct network_options options = {.max_batch = TEST_MAX_BATCH, .training = true};
    const struct node *picture = &graph->nodes[0];
    struct picture_format format = {.height = picture->height,
                                    .width = picture->width,
                                    .mean = {0.5, 0.5, 0.5},
                                    .deviation = {0.25, 0.25, 0.25}};
    *b = (struct bench){.graph = graph};
    assert_int_equal(engine_open(&b->engine, &engine_options), 0);
    assert_int_equal(input_create(&b->input, b->engine, &format, TEST_MAX_BATCH), 0);
    assert_int_equal(network_create(&b->network, b->engine, graph, &options), 0);
    b->weights = engine_alloc(b->engine, graph->total * sizeof(double));
    b->gradients = engine_alloc(b->engine, graph->total * sizeof(double));
    assert_non_null(b->weights);
    assert_non_null(b->gradients);
    fill_arena(b, seed);
    assert_int_equal(network_set_weights(b->network, b->weights), 0);
    for (int i = 0; i < TEST_MAX_BATCH; i++) {
        b->ids[i] = i;
        b->labels[i] = (i * 7 + 1) % graph->classes;
    }
    size_t elements = (size_t)TEST_MAX_BATCH * picture->channels * picture->height * picture->width;
    double *values = malloc(elements * sizeof(*values));
    assert_non_null(values);
    for (size_t i = 0; i < elements; i++)
        values[i] = 1.5 * test_uniform(seed + 2, i);
    bench_pictures(b, values, count);
    free(values);
}

void bench_close(struct bench *b)
{
    engine_free(b->engine, b->weights);
    engine_free(b->engine, b->gradients);
    network_destroy(&b->network);
    input_destroy(&b->input);
    engine_close(&b->engine);
    graph_destroy(&b->graph);
}

double bench_loss(struct bench *b, enum forward_mode mode)
{
    struct loss_targets targets = {
        .labels = b->labels, .teacher = b->teacher, .sample_id = b->ids, .count = b->count};
    memset(b->sums, 0, sizeof(b->sums));
    assert_int_equal(network_forward(b->network, b->input, mode), 0);
    assert_int_equal(network_loss(b->network, &targets, &b->loss, &b->scalars, b->sums), 0);
    return b->sums[LOSS_TOTAL] * b->scalars.inverse_batch;
}

double bench_step(struct bench *b)
{
    double loss = bench_loss(b, FORWARD_TRAIN);
    assert_int_equal(network_backward(b->network, b->gradients, &b->scalars, NULL), 0);
    return loss;
}

// The loss's slope where elements [0, count) of w move by direction; the error of the third
// derivative is far below rounding, and so small a step rarely carries a unit over ReLU's kink.
static double slope(struct bench *b, double *w, const double *direction, size_t count)
{
    const double step = 2e-6;
    double loss[2];
    for (int side = 0; side < 2; side++) {
        double move = side == 0 ? -step : step;
        double *kept = malloc(count * sizeof(*kept));
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

void bench_open_identity(struct bench *b, int classes, int count)
{
    struct graph *g;
    assert_int_equal(classes % 3, 0);
    assert_int_equal(graph_begin(&g, "identity", 3, 1, classes / 3), 0);
    assert_int_equal(graph_add_linear(g, "fc", classes), 0);
    assert_int_equal(graph_finish(g), 0);
    bench_open(b, g, count, 1);
    memset(b->weights, 0, g->total * sizeof(double));
    for (int c = 0; c < classes; c++)
        b->weights[c * (classes + 1)] = 1.0;
}
