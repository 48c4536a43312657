// The oneDNN engine against the reference engine.

#include <malloc.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "models/engine.h"

struct side { // one engine with one network
    struct engine *engine;
    struct network *network;
    struct input *input;
    void *arena, *gradients;
    struct step_scalars *scalars;
    double *sums;
    int32_t *labels;
};

struct problem {
    const char *arch;
    int64_t norm, activation;
    int size, classes, count;
    int threads;
};

static const struct step_scalars SCALARS = {.lr = 0.1, .ema_decay = 0.9, .inverse_batch = 1.0 / 40};

static double value_at(int64_t i)
{
    struct random_block r = random_draw(5, RANDOM_SYNTH, 0, (uint64_t)i);
    return random_unit(r.v[0]) * 4.0 - 2.0;
}

static struct graph *make_graph(const struct problem *p)
{
    struct graph *g = NULL;
    struct graph_options options = {3, p->size, p->size, p->classes, p->norm, p->activation};
    assert_int_equal(graph_create(&g, p->arch, &options), 0);
    return g;
}

static void open_side(struct side *s, const char *device, const struct graph *g,
                      const struct problem *p, const char *plan)
{
    struct engine_options options = {device, p->threads, 0, PRECISION_F32, true};
    struct network_options net = {.max_batch = p->count, .training = true, .plan = plan};
    struct picture_format format = {p->size, p->size, {0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}};
    float *initial = malloc(g->total * sizeof *initial);
    memset(s, 0, sizeof *s);
    if (strcmp(device, "reference") == 0)
        options.precision = PRECISION_F64;
    assert_int_equal(engine_open(&s->engine, &options), 0);
    assert_int_equal(network_create(&s->network, s->engine, g, &net), 0);
    assert_int_equal(input_create(&s->input, s->engine, &format, p->count), 0);
    size_t bytes = g->total * real_bytes(engine_real(s->engine));
    s->arena = engine_alloc(s->engine, bytes);
    s->gradients = engine_alloc(s->engine, bytes);
    s->scalars = engine_alloc(s->engine, sizeof *s->scalars);
    s->sums = engine_alloc(s->engine, LOSS_SUMS * sizeof(double));
    s->labels = engine_alloc(s->engine, 64 * sizeof(int32_t));
    *s->scalars = SCALARS;
    for (int i = 0; i < 64; i++)
        s->labels[i] = i % p->classes;
    graph_init_weights(g, INIT_KAIMING_NORMAL, 3, initial);
    for (size_t i = 0; i < g->total; i++) // gammas, betas and statistics that matter
        initial[i] +=
            initial[i] == 0.0f || initial[i] == 1.0f ? (float)(0.1 * value_at((int64_t)i)) : 0.0f;
    assert_int_equal(engine_from_f32(s->engine, s->arena, initial, g->total), 0);
    assert_int_equal(network_set_weights(s->network, s->arena), 0);
    free(initial);
}

static void close_side(struct side *s)
{
    network_destroy(&s->network);
    input_destroy(&s->input);
    engine_free(s->engine, s->arena);
    engine_free(s->engine, s->gradients);
    engine_free(s->engine, s->scalars);
    engine_free(s->engine, s->sums);
    engine_free(s->engine, s->labels);
    engine_close(&s->engine);
}

static void step(struct side *s, const struct problem *p, int count)
{
    int64_t ids[64];
    int64_t values = (int64_t)count * 3 * p->size * p->size;
    double *x = malloc((size_t)(values ? values : 1) * sizeof *x);
    for (int64_t i = 0; i < values; i++)
        x[i] = value_at(i);
    for (int i = 0; i < 64; i++)
        ids[i] = i;
    struct loss_targets targets = {.labels = s->labels, .sample_id = ids, .count = count};
    struct loss_spec spec = {.kind = DISTILL_NONE};
    assert_int_equal(input_load_values(s->input, x, count), 0);
    assert_int_equal(network_forward(s->network, s->input, FORWARD_TRAIN), 0);
    assert_int_equal(network_loss(s->network, &targets, &spec, s->scalars, s->sums), 0);
    assert_int_equal(network_backward(s->network, s->gradients, s->scalars, NULL), 0);
    free(x);
}

// ||a - b|| / ||b||
static double difference(const float *a, const double *b, size_t count)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return norm > 0 ? sqrt(error / norm) : sqrt(error);
}

// A plan's text with every `from` replaced.
static char *plan_with(const char *plan, const char *from, const char *to)
{
    char *out = NULL;
    size_t bytes;
    FILE *f = open_memstream(&out, &bytes);
    for (const char *hit; (hit = strstr(plan, from)) != NULL; plan = hit + strlen(from))
        fprintf(f, "%.*s%s", (int)(hit - plan), plan, to);
    fprintf(f, "%s", plan);
    fclose(f);
    return out;
}

// Logits and every parameter's gradient agree. A ReLU whose argument is within rounding of zero may
// open in one engine and stay shut in the other, which moves gradients of earlier layers by per
// cents; without ReLU there is nothing to flip.
static void check_parity(const struct problem *p, int count, const char *plan)
{
    double limit = p->activation == ACTIVATION_NONE ? 1e-4 : 5e-2;
    struct graph *g = make_graph(p);
    struct side cpu, reference;
    open_side(&cpu, "cpu", g, p, plan);
    open_side(&reference, "reference", g, p, NULL);
    step(&cpu, p, count);
    step(&reference, p, count);
    double logits = difference(network_logits(cpu.network), network_logits(reference.network),
                               (size_t)(count * p->classes));
    assert_true(logits < 1e-4);
    for (int i = 0; i < g->param_count; i++) {
        const struct param *q = &g->params[i];
        double d = difference((float *)cpu.gradients + q->offset,
                              (double *)reference.gradients + q->offset, q->count);
        if (!(d < limit))
            print_message("%s %s: %g\n", p->arch, q->name, d);
        assert_true(d < limit);
    }
    assert_int_equal(network_forward(cpu.network, cpu.input, FORWARD_EVAL), 0);
    assert_int_equal(network_forward(reference.network, reference.input, FORWARD_EVAL), 0);
    double eval = difference(network_logits(cpu.network), network_logits(reference.network),
                             (size_t)(count * p->classes));
    assert_true(eval < 1e-4);
    close_side(&cpu);
    close_side(&reference);
    graph_destroy(&g);
}

static void check_both(const char *arch, int64_t norm, int max_count, int count)
{
    struct problem p = {arch, norm, ACTIVATION_NONE, 32, 10, max_count, 1};
    check_parity(&p, count, NULL);
    p.activation = ACTIVATION_RELU;
    check_parity(&p, count, NULL);
}

static void test_parity_conv12(void **state)
{
    (void)state;
    check_both("conv12", NORM_BATCH, 3, 3);
    check_both("conv12", NORM_NONE, 3, 2);
}

static void test_parity_conv4(void **state)
{
    (void)state;
    check_both("conv4", NORM_BATCH, 9, 7);
    check_both("conv4", NORM_NONE, 5, 1);
}

static void test_parity_narrow(void **state)
{
    (void)state;
    check_both("conv12/4", NORM_BATCH, 6, 6);
    check_both("conv4/4", NORM_BATCH, 25, 25);
}

// The plan the clock makes for a problem; the caller frees.
static char *timed_plan(const struct problem *p)
{
    struct graph *g = make_graph(p);
    struct side a;
    char *plan = NULL;
    open_side(&a, "cpu", g, p, NULL);
    assert_int_equal(network_plan(a.network, &plan), 0);
    close_side(&a);
    graph_destroy(&g);
    return plan;
}

// Whatever the clock would choose here: oneDNN's direct kernels are right.
static void test_parity_direct(void **state)
{
    (void)state;
    struct problem p = {"conv12", NORM_BATCH, ACTIVATION_NONE, 32, 10, 2, 1};
    char *plan = timed_plan(&p), *no_wino = plan_with(plan, "=wino", "=direct");
    char *direct = plan_with(no_wino, "=own", "=direct");
    check_parity(&p, 2, direct);
    free(plan);
    free(no_wino);
    free(direct);
}

static bool has_own_kernels(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx512f");
#else
    return false;
#endif
}

// And so are our own kernels of the layers that have them, at a size where tiles and groups of
// pixels reach over the edge, with bias and ReLU too.
static void test_parity_own(void **state)
{
    (void)state;
    static const char ALL_OWN[] =
        "conv1 fwd=direct bwd_weights=direct;conv2 fwd=own bwd_data=own bwd_weights=own;"
        "conv3 fwd=own bwd_data=own bwd_weights=own;conv4 fwd=direct bwd_data=direct "
        "bwd_weights=direct;conv5 fwd=own bwd_data=own bwd_weights=own;conv6 fwd=own bwd_data=own "
        "bwd_weights=own;conv7 fwd=direct bwd_data=direct bwd_weights=direct;";
    static const char REST[] = "conv%d fwd=direct bwd_data=direct bwd_weights=direct;";
    char plan[1024];
    int length = snprintf(plan, sizeof plan, "%s", ALL_OWN);
    for (int i = 8; i <= 12; i++)
        length += snprintf(plan + length, sizeof plan - length, REST, i);
    if (!has_own_kernels())
        skip();
    // conv12/2: 6 6 12 12 24 24 … channels, 18 and 9 pixels across
    struct problem p = {"conv12/2", NORM_BATCH, ACTIVATION_NONE, 34, 10, 5, 1};
    check_parity(&p, 5, plan);
    p.threads = 2;
    check_parity(&p, 3, plan);
    p.norm = NORM_NONE;
    p.activation = ACTIVATION_RELU;
    check_parity(&p, 5, plan);
}

// Two networks that follow one plan give the same bits, whatever sizes they met before.
static void test_same_bits(void **state)
{
    (void)state;
    struct problem p = {"conv12", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 1};
    struct graph *g = make_graph(&p);
    struct side a, b;
    char *plan = NULL;
    open_side(&a, "cpu", g, &p, NULL);
    assert_int_equal(network_plan(a.network, &plan), 0);
    open_side(&b, "cpu", g, &p, plan);
    step(&a, &p, 8);
    step(&b, &p, 5);
    step(&b, &p, 8);
    assert_memory_equal(a.gradients, b.gradients, g->total * sizeof(float));
    char *again = NULL;
    assert_int_equal(network_plan(b.network, &again), 0);
    assert_string_equal(plan, again);
    free(plan);
    free(again);
    close_side(&a);
    close_side(&b);
    graph_destroy(&g);
}

// The order of every sum is fixed, with several threads too.
static void test_same_bits_threads(void **state)
{
    (void)state;
    struct problem p = {"conv4", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 2};
    struct graph *g = make_graph(&p);
    struct side a;
    open_side(&a, "cpu", g, &p, NULL);
    float *first = malloc(g->total * sizeof *first);
    step(&a, &p, 8);
    memcpy(first, a.gradients, g->total * sizeof *first);
    for (int i = 0; i < 3; i++) {
        memset(a.gradients, 0, g->total * sizeof *first);
        step(&a, &p, 8);
        assert_memory_equal(a.gradients, first, g->total * sizeof *first);
    }
    free(first);
    close_side(&a);
    graph_destroy(&g);
}

// A step allocates nothing once its batch size has been met.
static void test_memory_stays(void **state)
{
    (void)state;
    struct problem p = {"conv4", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 1};
    struct graph *g = make_graph(&p);
    struct side a;
    open_side(&a, "cpu", g, &p, NULL);
    step(&a, &p, 8);
    step(&a, &p, 3);
    size_t bytes = network_memory(a.network), heap = mallinfo2().uordblks;
    for (int i = 0; i < 20; i++)
        step(&a, &p, i % 2 ? 8 : 3);
    assert_int_equal(network_memory(a.network), bytes);
    assert_true(mallinfo2().uordblks <= heap + 4096);
    close_side(&a);
    graph_destroy(&g);
}

struct coverage {
    bool *seen;
};

static int cover(void *context, int microbatch, size_t begin, size_t end)
{
    struct coverage *c = context;
    assert_int_equal(microbatch, 0);
    for (size_t i = begin; i < end; i++) {
        if (c->seen[i])
            return RETORT_FAILED;
        c->seen[i] = true;
    }
    return RETORT_OK;
}

// What is reported ready covers the arena once.
static void test_ready_ranges(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 32, 5, 4, 1};
    struct graph *g = make_graph(&p);
    struct side a;
    open_side(&a, "cpu", g, &p, NULL);
    struct coverage c = {calloc(g->total, sizeof(bool))};
    struct ready_callback ready = {cover, &c};
    step(&a, &p, 4);
    assert_int_equal(network_backward(a.network, a.gradients, a.scalars, &ready), 0);
    for (size_t i = 0; i < g->total; i++)
        assert_true(c.seen[i]);
    free(c.seen);
    close_side(&a);
    graph_destroy(&g);
}

static void test_empty_microbatch(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 32, 5, 4, 1};
    struct graph *g = make_graph(&p);
    struct side a;
    open_side(&a, "cpu", g, &p, NULL);
    step(&a, &p, 4);
    step(&a, &p, 0);
    for (size_t i = 0; i < g->total; i++)
        assert_true(((float *)a.gradients)[i] == 0.0f);
    close_side(&a);
    graph_destroy(&g);
}

static void test_foreign_plan(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 32, 5, 4, 1};
    struct graph *g = make_graph(&p);
    struct engine_options options = {"cpu", 1, 0, PRECISION_F32, true};
    struct network_options net = {.max_batch = 4, .training = true, .plan = "something else"};
    struct engine *e = NULL;
    struct network *n = NULL;
    assert_int_equal(engine_open(&e, &options), 0);
    assert_int_equal(network_create(&n, e, g, &net), RETORT_USAGE);
    engine_close(&e);
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parity_conv12),     cmocka_unit_test(test_parity_conv4),
        cmocka_unit_test(test_parity_narrow),     cmocka_unit_test(test_parity_direct),
        cmocka_unit_test(test_parity_own),        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_threads), cmocka_unit_test(test_memory_stays),
        cmocka_unit_test(test_ready_ranges),      cmocka_unit_test(test_empty_microbatch),
        cmocka_unit_test(test_foreign_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
