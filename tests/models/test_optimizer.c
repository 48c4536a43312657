#include "base/arith/optimizer.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/graph_build.h"
#include "tests/models/support.h"

// gamma 0-2, beta 3-5, weight 6-11, bias 12-13; running mean 14-16, running variance 17-19.
enum { GAMMA = 0, BETA = 3, WEIGHT = 6, BIAS = 12, TRAINABLE = 14, TOTAL = 20 };

static struct graph *small_graph(void)
{
    struct graph *g;
    assert_int_equal(graph_begin(&g, "small", 3, 1, 1), 0);
    assert_int_equal(graph_add_batchnorm(g, "norm", false), 0);
    assert_int_equal(graph_add_linear(g, "fc", 2), 0);
    assert_int_equal(graph_finish(g), 0);
    assert_int_equal(g->trainable, TRAINABLE);
    assert_int_equal(g->total, TOTAL);
    return g;
}

// Arenas of one element type, filled and read as double.
struct state {
    struct host_engine host;
    struct engine *e;
    struct graph *g;
    size_t total;
    struct arenas a;
    struct optimizer_spec spec;
    struct step_scalars scalars;
};

static void put(struct state *s, void *arena, size_t i, double v)
{
    if (s->host.real == REAL_F64)
        ((double *)arena)[i] = v;
    else
        ((float *)arena)[i] = (float)v;
}

static double get(const struct state *s, const void *arena, size_t i)
{
    return s->host.real == REAL_F64 ? ((const double *)arena)[i]
                                    : (double)((const float *)arena)[i];
}

static void fill(struct state *s, void *arena, double v)
{
    for (size_t i = 0; i < s->total; i++)
        put(s, arena, i, v);
}

static void state_open(struct state *s, struct graph *g, enum real_type real, int threads)
{
    *s = (struct state){.g = g, .total = g->total};
    s->e = host_only_engine(&s->host, real, threads);
    s->a.end = g->total;
    void **arenas[] = {&s->a.weights, &s->a.gradients, &s->a.moment1, &s->a.moment2, &s->a.ema};
    for (size_t i = 0; i < sizeof(arenas) / sizeof(arenas[0]); i++) {
        *arenas[i] = engine_alloc(s->e, g->total * real_bytes(real));
        assert_non_null(*arenas[i]);
    }
}

static void state_close(struct state *s)
{
    void *arenas[] = {s->a.weights, s->a.gradients, s->a.moment1, s->a.moment2, s->a.ema};
    for (size_t i = 0; i < sizeof(arenas) / sizeof(arenas[0]); i++)
        engine_free(s->e, arenas[i]);
    graph_destroy(&s->g);
}

static void step(struct state *s)
{
    assert_int_equal(engine_update(s->e, s->g, &s->a, &s->spec, &s->scalars), 0);
}

static void near(const struct state *s, const void *arena, size_t i, double expected)
{
    double tolerance = s->host.real == REAL_F64 ? 1e-14 : 2.0 * (double)FLT_EPSILON;
    double value = get(s, arena, i);
    if (!(fabs(value - expected) <= tolerance * (1.0 + fabs(expected))))
        fail_msg("element %zu: %.17g is not %.17g", i, value, expected);
}

static const enum real_type REALS[] = {REAL_F32, REAL_F64};

// g' = g + wd w; m = mu m + g'; w -= lr (g' + mu m)
//   step 1: g' = 0.51, m = 0.51, w = 1 - 0.1 · 0.969
//   step 2: g' = -0.2 + 0.009031, m = 0.268031, w = 0.9031 - 0.1 · 0.0502589
static void sgd_nesterov_takes_the_hand_computed_steps(void **unused)
{
    (void)unused;
    for (int r = 0; r < 2; r++) {
        struct state s;
        state_open(&s, small_graph(), REALS[r], 1);
        s.spec = (struct optimizer_spec){
            .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
        s.scalars.lr = 0.1;
        fill(&s, s.a.weights, 1.0);
        fill(&s, s.a.gradients, 0.5);
        step(&s);
        near(&s, s.a.weights, WEIGHT, 0.9031);
        near(&s, s.a.weights, WEIGHT + 5, 0.9031);
        // No weight decay: 1 - 0.1 (0.5 + 0.45)
        near(&s, s.a.weights, GAMMA, 0.905);
        near(&s, s.a.weights, BETA + 2, 0.905);
        near(&s, s.a.weights, BIAS + 1, 0.905);
        near(&s, s.a.weights, TRAINABLE, 0.95); // 0.9 · 1 + 0.1 · 0.5
        near(&s, s.a.weights, TOTAL - 1, 0.95);
        fill(&s, s.a.gradients, -0.2);
        step(&s);
        near(&s, s.a.weights, WEIGHT, 0.89807411);
        near(&s, s.a.moment1, WEIGHT, 0.268031);
        near(&s, s.a.weights, TRAINABLE, 0.9 * 0.95 - 0.1 * 0.2);
        state_close(&s);
    }
}

// step 1: m = 0.51, w = 0.949; step 2: g' = -0.19051, m = 0.26849, w = 0.949 - 0.026849
static void sgd_momentum_takes_the_hand_computed_steps(void **unused)
{
    (void)unused;
    struct state s;
    state_open(&s, small_graph(), REAL_F64, 1);
    s.spec = (struct optimizer_spec){
        .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 0.01, .nesterov = false};
    s.scalars.lr = 0.1;
    fill(&s, s.a.weights, 1.0);
    fill(&s, s.a.gradients, 0.5);
    step(&s);
    near(&s, s.a.weights, WEIGHT, 0.949);
    fill(&s, s.a.gradients, -0.2);
    step(&s);
    near(&s, s.a.weights, WEIGHT, 0.922151);
    state_close(&s);
}

// step 1: w = 0.99 - 0.1 · 0.5 / (0.5 + 1e-8)
// step 2: m^ = 0.02 / 0.19, v^ = 0.00031225 / 0.001999
static void adamw_takes_the_hand_computed_steps(void **unused)
{
    (void)unused;
    for (int r = 0; r < 2; r++) {
        struct state s;
        state_open(&s, small_graph(), REALS[r], 1);
        s.spec = (struct optimizer_spec){.kind = OPTIMIZER_ADAMW,
                                         .weight_decay = 0.1,
                                         .beta1 = 0.9,
                                         .beta2 = 0.999,
                                         .epsilon = 1e-8};
        s.scalars = (struct step_scalars){.lr = 0.1, .bias1 = 0.1, .bias2 = 0.001};
        fill(&s, s.a.weights, 1.0);
        fill(&s, s.a.gradients, 0.5);
        step(&s);
        near(&s, s.a.weights, WEIGHT, 0.890000002);
        near(&s, s.a.weights, BIAS, 0.900000002); // not decayed
        near(&s, s.a.weights, TRAINABLE, 0.95);
        s.scalars.bias1 = 0.19;
        s.scalars.bias2 = 0.001999;
        fill(&s, s.a.gradients, -0.25);
        step(&s);
        near(&s, s.a.weights, WEIGHT, 0.8544662986878462);
        near(&s, s.a.moment1, WEIGHT, 0.02);
        near(&s, s.a.moment2, WEIGHT, 0.00031225);
        state_close(&s);
    }
}

static void ema_decay_warms_up(void **unused)
{
    (void)unused;
    assert_true(ema_decay_at(0.999, 0) == 0.1);
    assert_true(ema_decay_at(0.999, 1) == 2.0 / 11.0);
    assert_true(ema_decay_at(0.999, 90) == 0.91);
    assert_true(ema_decay_at(0.999, 8989) < 0.999); // 8990 / 8999 = 0.9989999…
    assert_true(ema_decay_at(0.999, 9000) == 0.999);
    assert_true(ema_decay_at(0.0, 5) == 0.0);
}

// e_T = prod d_t e_0 + sum_t (1 - d_t) prod_{s > t} d_s w_t, parameters and running statistics.
static void ema_is_its_closed_form(void **unused)
{
    (void)unused;
    enum { STEPS = 300 };
    static double history[STEPS][TOTAL];
    for (int r = 0; r < 2; r++) {
        struct state s;
        state_open(&s, small_graph(), REALS[r], 1);
        s.spec = (struct optimizer_spec){.kind = OPTIMIZER_SGD, .momentum = 0.9, .nesterov = true};
        s.scalars.lr = 0.05;
        fill(&s, s.a.weights, 1.0);
        fill(&s, s.a.ema, 1.0);
        for (int t = 0; t < STEPS; t++) {
            for (size_t i = 0; i < TOTAL; i++)
                put(&s, s.a.gradients, i, test_uniform(7, t * TOTAL + i));
            s.scalars.ema_decay = ema_decay_at(0.95, t);
            step(&s);
            for (size_t i = 0; i < TOTAL; i++)
                history[t][i] = get(&s, s.a.weights, i);
        }
        for (size_t i = 0; i < TOTAL; i++) {
            double expected = 0.0, later = 1.0;
            for (int t = STEPS - 1; t >= 0; t--) {
                expected += (1.0 - ema_decay_at(0.95, t)) * later * history[t][i];
                later *= ema_decay_at(0.95, t);
            }
            expected += later * 1.0;
            double error = fabs(get(&s, s.a.ema, i) - expected);
            assert_true(error < (REALS[r] == REAL_F64 ? 1e-14 : 1e-6));
            assert_true(fabs(expected - history[STEPS - 1][i]) > 1e-4);
        }
        state_close(&s);
    }
}

static void ema_of_decay_zero_is_the_weights(void **unused)
{
    (void)unused;
    struct state s;
    state_open(&s, small_graph(), REAL_F32, 1);
    s.spec = (struct optimizer_spec){.kind = OPTIMIZER_SGD, .momentum = 0.9};
    s.scalars.lr = 0.1;
    for (size_t i = 0; i < TOTAL; i++) {
        put(&s, s.a.weights, i, test_uniform(1, i));
        put(&s, s.a.gradients, i, test_uniform(2, i));
        put(&s, s.a.ema, i, 1e6);
    }
    step(&s);
    assert_memory_equal(s.a.ema, s.a.weights, TOTAL * sizeof(float));
    void *ema = s.a.ema;
    s.a.ema = NULL; // no average is kept
    step(&s);
    assert_memory_not_equal(ema, s.a.weights, TOTAL * sizeof(float));
    s.a.ema = ema;
    state_close(&s);
}

// Large enough that threads share it and ranges end inside vectors and blocks.
static struct graph *large_graph(void)
{
    struct graph *g;
    assert_int_equal(graph_begin(&g, "large", 3, 33, 31), 0);
    assert_int_equal(graph_add_conv(g, "conv", 7, 3, 1, true), 0);
    assert_int_equal(graph_add_batchnorm(g, "norm", false), 0);
    assert_int_equal(graph_add_linear(g, "fc", 13), 0);
    assert_int_equal(graph_finish(g), 0);
    assert_true(g->total > 5 * 16384);
    return g;
}

static void large_begin(struct state *s, int threads, int64_t kind)
{
    state_open(s, large_graph(), REAL_F32, threads);
    s->spec = (struct optimizer_spec){.kind = kind,
                                      .momentum = 0.9,
                                      .weight_decay = 5e-4,
                                      .beta1 = 0.9,
                                      .beta2 = 0.999,
                                      .epsilon = 1e-8,
                                      .nesterov = true};
    s->scalars = (struct step_scalars){.lr = 0.05, .ema_decay = 0.9, .bias1 = 0.1, .bias2 = 0.001};
    for (size_t i = 0; i < s->total; i++) {
        put(s, s->a.weights, i, test_uniform(1, i));
        put(s, s->a.gradients, i, test_uniform(2, i));
    }
}

static void large_step(struct state *s, int threads, int64_t kind)
{
    large_begin(s, threads, kind);
    step(s);
    step(s);
}

// Vectors and threads change no bit: each element is what the scalar arithmetic says.
static void every_element_is_updated_alike(void **unused)
{
    (void)unused;
    const int64_t kinds[] = {OPTIMIZER_SGD, OPTIMIZER_ADAMW};
    for (int k = 0; k < 2; k++) {
        struct state one, three;
        large_step(&one, 1, kinds[k]);
        large_step(&three, 3, kinds[k]);
        size_t bytes = one.total * sizeof(float);
        assert_memory_equal(one.a.weights, three.a.weights, bytes);
        assert_memory_equal(one.a.ema, three.a.ema, bytes);
        for (int p = 0; p < one.g->param_count; p++)
            for (size_t i = 0; i < one.g->params[p].count; i++) {
                size_t at = one.g->params[p].offset + i;
                float w = (float)test_uniform(1, at), g = (float)test_uniform(2, at);
                float m = 0.0f, v = 0.0f, e = 0.0f, wd = one.g->params[p].decay ? 5e-4f : 0.0f;
                for (int t = 0; t < 2; t++) {
                    if (at >= one.g->trainable)
                        w = running_step_f32(w, g, 0.1f);
                    else if (kinds[k] == OPTIMIZER_ADAMW)
                        w = adamw_step_f32(w, g, &m, &v, 0.05f, (float)(1.0 - 0.9),
                                           (float)(1.0 - 0.999), wd, 0.1f, 0.001f, 1e-8f);
                    else
                        w = sgd_step_f32(w, g, &m, 0.05f, 0.9f, wd, 1);
                    e = ema_step_f32(e, w, 0.9f);
                }
                assert_true(w == ((const float *)one.a.weights)[at]);
                assert_true(e == ((const float *)one.a.ema)[at]);
            }
        state_close(&one);
        state_close(&three);
    }
}

// Two steps of a range with moments and EMA of that range alone, against two of everything.
static void check_range(const struct state *whole, int64_t kind, size_t begin, size_t end)
{
    struct state s;
    large_begin(&s, 3, kind);
    size_t own = end - begin, moments = s.g->trainable - begin < own ? s.g->trainable - begin : own;
    void *all[] = {s.a.moment1, s.a.moment2, s.a.ema};
    float *kept[3];
    for (int a = 0; a < 3; a++)
        kept[a] = calloc(own, sizeof(float)); // a sanitizer sees what passes its ends
    s.a.moment1 = kept[0];
    s.a.moment2 = kept[1];
    s.a.ema = kept[2];
    s.a.begin = begin;
    s.a.end = end;
    step(&s);
    step(&s);
    for (size_t i = 0; i < s.total; i++)
        if (i < begin || i >= end)
            assert_true(get(&s, s.a.weights, i) == (double)(float)test_uniform(1, i));
    const size_t one = sizeof(float);
    assert_memory_equal((float *)s.a.weights + begin, (float *)whole->a.weights + begin, own * one);
    assert_memory_equal(s.a.ema, (float *)whole->a.ema + begin, own * one);
    assert_memory_equal(s.a.moment1, (float *)whole->a.moment1 + begin, moments * one);
    assert_memory_equal(s.a.moment2, (float *)whole->a.moment2 + begin, moments * one);
    for (int a = 0; a < 3; a++)
        free(kept[a]);
    s.a.moment1 = all[0];
    s.a.moment2 = all[1];
    s.a.ema = all[2];
    state_close(&s);
}

static void a_range_is_updated_alone(void **unused)
{
    (void)unused;
    const int64_t kinds[] = {OPTIMIZER_SGD, OPTIMIZER_ADAMW};
    for (int k = 0; k < 2; k++) {
        struct state whole;
        large_step(&whole, 1, kinds[k]);
        const size_t cuts[] = {0, 4, 100, 40004, whole.g->trainable - 2, whole.total};
        for (size_t i = 0; i + 1 < sizeof(cuts) / sizeof(cuts[0]); i++)
            check_range(&whole, kinds[k], cuts[i], cuts[i + 1]);
        state_close(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sgd_nesterov_takes_the_hand_computed_steps),
        cmocka_unit_test(sgd_momentum_takes_the_hand_computed_steps),
        cmocka_unit_test(adamw_takes_the_hand_computed_steps),
        cmocka_unit_test(ema_decay_warms_up),
        cmocka_unit_test(ema_is_its_closed_form),
        cmocka_unit_test(ema_of_decay_zero_is_the_weights),
        cmocka_unit_test(every_element_is_updated_alike),
        cmocka_unit_test(a_range_is_updated_alone),
    };
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
