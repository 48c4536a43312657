// The update kernel against the host engines' update: the same bits.

#include "models/cuda/kernels/update.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/cuda/kernels/finite.h"
#include "models/cuda/kernels/loss_scale.h"
#include "models/graph_build.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

enum { ARENAS = 5, STEPS = 3 };

// Weights that end inside blocks, two BatchNorms, biases: 5 pieces and more.
static struct graph *graph_new(void)
{
    struct graph *g;
    assert_int_equal(graph_begin(&g, "update", 3, 9, 11), 0);
    assert_int_equal(graph_add_conv(g, "conv", 7, 3, 1, false), 0);
    assert_int_equal(graph_add_batchnorm(g, "norm1", false), 0);
    assert_int_equal(graph_add_conv(g, "conv2", 5, 3, 1, true), 0);
    assert_int_equal(graph_add_batchnorm(g, "norm2", false), 0);
    assert_int_equal(graph_add_linear(g, "fc", 6), 0);
    assert_int_equal(graph_finish(g), 0);
    return g;
}

struct both {
    struct graph *graph;
    struct host_engine host;
    float *values[ARENAS], *device[ARENAS]; // weights, gradients, moments, EMA
    size_t bytes, begin, end;
    struct update_piece *pieces; // device
    size_t piece_count;
    struct step_scalars *scalars; // device
};

// Moments and EMA of [begin, end) alone, where all of them lie.
static struct arenas arenas_of(float *const values[ARENAS], size_t begin, size_t end)
{
    return (struct arenas){.weights = values[0],
                           .gradients = values[1],
                           .moment1 = values[2] + begin,
                           .moment2 = values[3] + begin,
                           .ema = values[4] + begin,
                           .begin = begin,
                           .end = end};
}

static void both_open(struct both *b, size_t begin, size_t end)
{
    memset(b, 0, sizeof(*b));
    b->begin = begin;
    b->end = end;
    b->graph = graph_new();
    host_only_engine(&b->host, REAL_F32, 1);
    b->bytes = b->graph->total * sizeof(float);
    for (int a = 0; a < ARENAS; a++) {
        b->values[a] = malloc(b->bytes);
        for (size_t i = 0; i < b->graph->total; i++)
            b->values[a][i] = (float)test_uniform(3, a * b->graph->total + i);
        if (a == 3) // a second moment is never negative
            for (size_t i = 0; i < b->graph->total; i++)
                b->values[a][i] *= b->values[a][i];
        OK(cudaMalloc((void **)&b->device[a], b->bytes));
        OK(cudaMemcpy(b->device[a], b->values[a], b->bytes, cudaMemcpyHostToDevice));
    }
    b->piece_count = update_pieces(b->graph, begin, end, NULL);
    struct update_piece *pieces = calloc(b->piece_count + 1, sizeof(*pieces));
    assert_int_equal(update_pieces(b->graph, begin, end, pieces), b->piece_count);
    OK(cudaMalloc((void **)&b->pieces, (b->piece_count + 1) * sizeof(*pieces)));
    OK(cudaMemcpy(b->pieces, pieces, b->piece_count * sizeof(*pieces), cudaMemcpyHostToDevice));
    free(pieces);
    OK(cudaMalloc((void **)&b->scalars, sizeof(*b->scalars)));
}

static void both_close(struct both *b)
{
    for (int a = 0; a < ARENAS; a++) {
        free(b->values[a]);
        OK(cudaFree(b->device[a]));
    }
    OK(cudaFree(b->pieces));
    OK(cudaFree(b->scalars));
    graph_destroy(&b->graph);
}

static void device_step(struct both *b, const struct optimizer_spec *spec,
                        const struct step_scalars *scalars, int with_ema)
{
    struct arenas a = arenas_of(b->device, b->begin, b->end);
    if (!with_ema)
        a.ema = NULL;
    OK(cudaMemcpy(b->scalars, scalars, sizeof(*scalars), cudaMemcpyHostToDevice));
    OK(update_launch(b->pieces, b->piece_count, &a, spec, b->scalars, NULL));
    OK(cudaDeviceSynchronize());
}

// Arena `a` of the device must be the host's in [begin, end), and `before` elsewhere.
static void same_bits(const struct both *b, int a, const float *before, size_t begin, size_t end)
{
    float *got = malloc(b->bytes);
    OK(cudaMemcpy(got, b->device[a], b->bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < b->graph->total; i++) {
        float expected = i >= begin && i < end ? b->values[a][i] : before[i];
        if (memcmp(&got[i], &expected, sizeof(expected)) != 0)
            fail_msg("arena %d, element %zu of %zu: %a is not %a", a, i, b->graph->total,
                     (double)got[i], (double)expected);
    }
    free(got);
}

static const struct optimizer_spec SPECS[] = {
    {.kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4},
    {.kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true},
    {.kind = OPTIMIZER_ADAMW, .weight_decay = 0.05, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
};

static void the_bits_are_the_hosts(void **unused)
{
    (void)unused;
    for (int k = 0; k < 3; k++) {
        struct both b;
        size_t total;
        both_open(&b, 0, SIZE_MAX);
        total = b.graph->total;
        for (int t = 0; t < STEPS; t++) {
            struct step_scalars s = {
                .lr = 0.05 / (t + 1), .ema_decay = 0.9, .bias1 = 0.1 * (t + 1), .bias2 = 1e-3};
            int with_ema = t != 1; // no average is kept
            struct arenas host = arenas_of(b.values, 0, total);
            if (!with_ema)
                host.ema = NULL;
            assert_int_equal(engine_update(&b.host.base, b.graph, &host, &SPECS[k], &s), 0);
            device_step(&b, &SPECS[k], &s, with_ema);
        }
        for (int a = 0; a < ARENAS; a++)
            same_bits(&b, a, NULL, 0, total);
        both_close(&b);
    }
}

// A rank's own range: what lies outside is not touched.
static void a_range_is_updated_alone(void **unused)
{
    (void)unused;
    const size_t ranges[][2] = {{100, 1900}, {0, 1}, {500, 500}};
    for (int r = 0; r < 3; r++) {
        size_t begin = ranges[r][0], end = ranges[r][1];
        struct both b;
        struct step_scalars s = {.lr = 0.1, .ema_decay = 0.5};
        both_open(&b, begin, end);
        float *before[ARENAS];
        for (int a = 0; a < ARENAS; a++) {
            before[a] = malloc(b.bytes);
            memcpy(before[a], b.values[a], b.bytes);
        }
        struct arenas host = arenas_of(b.values, 0, b.graph->total);
        assert_int_equal(engine_update(&b.host.base, b.graph, &host, &SPECS[1], &s), 0);
        device_step(&b, &SPECS[1], &s, 1);
        for (int a = 0; a < ARENAS; a++) {
            same_bits(&b, a, before[a], begin, end);
            free(before[a]);
        }
        both_close(&b);
    }
}

// What engine_update queues for scaled gradients.
static void scaled_step(struct both *b, const struct step_scalars *scalars,
                        struct loss_scale *scale, struct loss_scale *now)
{
    struct arenas a = arenas_of(b->device, b->begin, b->end);
    a.scale = scale;
    OK(cudaMemcpy(b->scalars, scalars, sizeof(*scalars), cudaMemcpyHostToDevice));
    OK(not_finite_launch(&scale->not_finite, b->device[1], b->graph->total, NULL));
    OK(update_launch(b->pieces, b->piece_count, &a, &SPECS[1], b->scalars, NULL));
    OK(loss_scale_launch(scale, NULL));
    OK(cudaMemcpy(now, scale, sizeof(*now), cudaMemcpyDeviceToHost));
}

// Puts the host's gradients there, the trained ones times `by`.
static void put_gradients(struct both *b, float by, float last)
{
    float *scaled = malloc(b->bytes);
    for (size_t i = 0; i < b->graph->total; i++)
        scaled[i] = b->values[1][i] * (i < b->graph->trainable ? by : 1.0F);
    if (last != 0.0F)
        scaled[b->graph->trainable - 1] = last;
    OK(cudaMemcpy(b->device[1], scaled, b->bytes, cudaMemcpyHostToDevice));
    free(scaled);
}

static void check_scale(const struct loss_scale *s, float scale, int64_t good, int64_t skipped)
{
    assert_true(s->scale == scale);
    assert_int_equal(s->not_finite, 0);
    assert_int_equal(s->good_steps, good);
    assert_int_equal(s->skipped, skipped);
}

// Scaled gradients give the bits of others; one that is not finite leaves everything as it is.
static void scaled_gradients_are_divided_or_skipped(void **unused)
{
    (void)unused;
    static const float BAD[] = {INFINITY, -INFINITY, NAN};
    const struct step_scalars s = {.lr = 0.1, .ema_decay = 0.5};
    struct loss_scale now = {.scale = 1024.0F, .growth_steps = 2}, *scale;
    struct both b;
    both_open(&b, 0, SIZE_MAX);
    struct arenas host = arenas_of(b.values, 0, b.graph->total);
    OK(cudaMalloc((void **)&scale, sizeof(*scale)));
    OK(cudaMemcpy(scale, &now, sizeof(now), cudaMemcpyHostToDevice));
    float expected = 1024.0F;
    for (int64_t t = 0; t < 6; t++) {
        bool bad = t % 2 == 0; // the good ones never come twice in a row
        put_gradients(&b, expected, bad ? BAD[t / 2] : 0.0F);
        if (!bad)
            assert_int_equal(engine_update(&b.host.base, b.graph, &host, &SPECS[1], &s), 0);
        scaled_step(&b, &s, scale, &now);
        for (int a = 0; a < ARENAS; a++)
            if (a != 1) // gradients
                same_bits(&b, a, NULL, 0, b.graph->total);
        expected *= bad ? 0.5F : 1.0F;
        check_scale(&now, expected, bad ? 0 : 1, t / 2 + 1);
    }
    put_gradients(&b, expected, 0.0F);
    scaled_step(&b, &s, scale, &now); // the second in a row
    check_scale(&now, 256.0F, 0, 3);
    OK(cudaFree(scale));
    both_close(&b);
}

// In order, without gaps, each as its parameters are, and no larger than a block's work.
static void pieces_cover_the_arena(void **unused)
{
    (void)unused;
    struct graph *g = graph_new();
    struct update_piece pieces[64];
    size_t count = update_pieces(g, 0, g->total, pieces), at = 0;
    assert_in_range(count, 5, 64);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(pieces[i].begin, at);
        assert_in_range(pieces[i].count, 1, 1024);
        for (size_t end = at + pieces[i].count; at < end; at++)
            for (int p = 0; p < g->param_count; p++) {
                if (at < g->params[p].offset || at >= g->params[p].offset + g->params[p].count)
                    continue;
                assert_int_equal(pieces[i].treatment, at >= g->trainable   ? UPDATE_RUNNING
                                                      : g->params[p].decay ? UPDATE_DECAYED
                                                                           : UPDATE_PLAIN);
            }
    }
    assert_int_equal(at, g->total);
    graph_destroy(&g);
}

int main(void)
{
    int count;
    if (cudaGetDeviceCount(&count) != cudaSuccess)
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_are_the_hosts),
        cmocka_unit_test(a_range_is_updated_alone),
        cmocka_unit_test(scaled_gradients_are_divided_or_skipped),
        cmocka_unit_test(pieces_cover_the_arena),
    };
    return cmocka_run_group_tests_name("update kernel", tests, NULL, NULL);
}
