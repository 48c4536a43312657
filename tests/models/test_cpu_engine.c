// The oneDNN engine against the reference engine: layer by layer, and whole networks by every kind
// of plan.

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

// ---- one layer at a time

struct layer_case {
    enum node_kind kind;
    int channels, kernel, stride;
    bool bias, relu; // relu: of the node itself, or fused with the one before
};
static const struct layer_case LAYERS[] = {
    {NODE_CONV, 7, 1, 1, false, false},     {NODE_CONV, 16, 3, 1, true, false},
    {NODE_CONV, 20, 3, 2, false, false},    {NODE_CONV, 33, 3, 1, false, true},
    {NODE_CONV, 5, 5, 3, true, true},       {NODE_BATCHNORM, 0, 0, 0, false, false},
    {NODE_BATCHNORM, 0, 0, 0, false, true}, {NODE_ACTIVATION, 0, 0, 0, false, true},
    {NODE_AVGPOOL, 0, 2, 0, false, false},  {NODE_AVGPOOL, 0, 3, 0, false, true},
    {NODE_LINEAR, 13, 0, 0, true, false},   {NODE_LINEAR, 40, 0, 0, true, true},
};

// The layer reads the pictures, or what a convolution of 18 channels (blocked, with padding) gives
// it, and then hands gradients on.
static struct graph *layer_graph(const struct layer_case *c, bool behind)
{
    struct graph *g;
    OK(graph_begin(&g, "layer", 3, 11, 14));
    if (behind)
        OK(graph_add_conv(g, "before", 18, 3, 1, false));
    if (c->kind == NODE_CONV)
        OK(graph_add_conv(g, "conv", c->channels, c->kernel, c->stride, c->bias));
    if (c->kind == NODE_BATCHNORM)
        OK(graph_add_batchnorm(g, "norm", false));
    if (c->kind == NODE_AVGPOOL)
        OK(graph_add_avgpool(g, "pool", c->kernel));
    if (c->kind == NODE_LINEAR)
        OK(graph_add_linear(g, "linear", c->channels));
    if (c->relu)
        OK(graph_add_activation(g, "act", ACTIVATION_RELU));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    return g;
}

static void every_layer_is_the_reference_one(void **state)
{
    (void)state;
    const struct bench_options cpu = {.device = "cpu", .threads = 1, .max_batch = 8};
    for (size_t i = 0; i < sizeof(LAYERS) / sizeof(LAYERS[0]); i++)
        for (int behind = 0; behind < 2; behind++) {
            struct bench b, expected;
            bench_open_on(&b, &cpu, layer_graph(&LAYERS[i], behind), 5, 41);
            bench_open(&expected, layer_graph(&LAYERS[i], behind), 5, 41);
            bench_check_alike(&b, &expected, 3e-6);
            bench_close(&b);
            bench_close(&expected);
        }
}

// ---- whole networks

struct problem {
    const char *arch;
    int64_t norm, activation;
    int size, classes, max_batch;
    int threads;
};

static struct graph *make_graph(const struct problem *p)
{
    struct graph *g = NULL;
    struct graph_options options = {3, p->size, p->size, p->classes, p->norm, p->activation};
    OK(graph_create(&g, p->arch, &options));
    return g;
}

static void open_problem(struct bench *b, const char *device, const struct problem *p,
                         const char *plan)
{
    const struct bench_options options = {
        .device = device, .threads = p->threads, .max_batch = p->max_batch, .plan = plan};
    bench_open_on(b, &options, make_graph(p), p->max_batch, 3);
}

static void open_cpu(struct bench *b, const struct problem *p, const char *plan)
{
    open_problem(b, "cpu", p, plan);
}

static void step(struct bench *b, int count)
{
    bench_random_pictures(b, count, 5);
    bench_step(b);
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

// A ReLU whose argument is within rounding of zero may open in one engine and stay shut in the
// other, which moves gradients of earlier layers by per cents; without ReLU there is nothing to
// flip. (tests/golden compares networks with ReLU whose arguments all keep away from zero.)
static void check_parity(const struct problem *p, int count, const char *plan)
{
    struct bench cpu, reference;
    open_cpu(&cpu, p, plan);
    open_problem(&reference, "reference", p, NULL);
    bench_random_pictures(&cpu, count, 5);
    bench_random_pictures(&reference, count, 5);
    bench_check_alike(&cpu, &reference, p->activation == ACTIVATION_NONE ? 1e-4 : 5e-2);
    bench_close(&cpu);
    bench_close(&reference);
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
    check_both("conv12/4", NORM_BATCH, 16, 16);
    check_both("conv4/4", NORM_BATCH, 25, 25);
}

// The plan the clock makes for a problem; the caller frees.
static char *timed_plan(const struct problem *p)
{
    struct bench b;
    char *plan = NULL;
    open_cpu(&b, p, NULL);
    OK(network_plan(b.network, &plan));
    bench_close(&b);
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
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

// The text of a plan by which every convolution is done by our own kernels, but for the first.
static void own_plan(char *plan, size_t bytes)
{
    int length = snprintf(plan, bytes, "conv1 fwd=direct bwd_weights=direct;");
    for (int i = 2; i <= 12; i++)
        length += snprintf(plan + length, bytes - length,
                           "conv%d fwd=own bwd_data=own bwd_weights=own;", i);
}

// And so are our own kernels, at a size where tiles and groups of pixels reach over the edge, with
// bias and ReLU too (test_cpu_kernels.c has them one by one).
static void test_parity_own(void **state)
{
    (void)state;
    static const char *const ARCHS[] = {"conv12/2", "conv12/6"};
    char plan[1024];
    own_plan(plan, sizeof plan);
    if (!has_own_kernels())
        skip();
    for (size_t i = 0; i < sizeof(ARCHS) / sizeof(ARCHS[0]); i++) {
        // 34, 17, 9, 5 and 3 pixels across
        struct problem p = {ARCHS[i], NORM_BATCH, ACTIVATION_NONE, 34, 10, 5, 1};
        check_parity(&p, 5, plan);
        p.threads = 2;
        check_parity(&p, 3, plan);
        p.norm = NORM_NONE;
        p.activation = ACTIVATION_RELU;
        check_parity(&p, 5, plan);
    }
}

// ---- networks that only evaluate: BatchNorm is folded into weights

static void open_evaluation(struct bench *b, const char *device, const struct problem *p,
                            const char *plan)
{
    const struct bench_options options = {.device = device,
                                          .threads = p->threads,
                                          .max_batch = p->max_batch,
                                          .plan = plan,
                                          .evaluates = true};
    bench_open_on(b, &options, make_graph(p), p->max_batch, 3);
    bench_random_pictures(b, p->max_batch, 5);
    bench_loss(b, FORWARD_EVAL);
}

static void check_evaluation(const struct problem *p, const char *plan)
{
    struct bench cpu, reference;
    open_evaluation(&cpu, "cpu", p, plan);
    open_evaluation(&reference, "reference", p, NULL);
    bench_check_logits_alike(&cpu, &reference, 1e-5);
    // New weights are folded anew.
    for (size_t i = 0; i < cpu.graph->total; i++)
        cpu.weights[i] = reference.weights[i] = 0.9 * cpu.weights[i] + 0.001;
    bench_loss(&cpu, FORWARD_EVAL);
    bench_loss(&reference, FORWARD_EVAL);
    bench_check_logits_alike(&cpu, &reference, 1e-5);
    bench_close(&cpu);
    bench_close(&reference);
}

// By the plan of a network that trains, as the evaluation of a stage does it.
static void test_evaluation_alone(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int64_t norm;
    } NETWORKS[] = {{"conv12/2", NORM_BATCH}, {"conv4", NORM_BATCH_SYNC}, {"conv4/4", NORM_NONE}};
    char own[1024];
    own_plan(own, sizeof own);
    for (size_t i = 0; i < sizeof(NETWORKS) / sizeof(NETWORKS[0]); i++) {
        struct problem p = {NETWORKS[i].arch, NETWORKS[i].norm, ACTIVATION_RELU, 32, 10, 5, 1};
        char *plan = timed_plan(&p), *no_wino = plan_with(plan, "=wino", "=direct");
        char *direct = plan_with(no_wino, "=own", "=direct");
        check_evaluation(&p, plan);
        check_evaluation(&p, direct);
        if (has_own_kernels())
            check_evaluation(&p, own);
        free(plan);
        free(no_wino);
        free(direct);
    }
}

// Two networks that follow one plan give the same bits, whatever sizes they met before.
static void test_same_bits(void **state)
{
    (void)state;
    struct problem p = {"conv12", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 1};
    struct bench a, b;
    char *plan = NULL;
    open_cpu(&a, &p, NULL);
    OK(network_plan(a.network, &plan));
    open_cpu(&b, &p, plan);
    step(&a, 8);
    step(&b, 5);
    step(&b, 8);
    assert_memory_equal(a.gradient_arena, b.gradient_arena, a.graph->total * sizeof(float));
    char *again = NULL;
    OK(network_plan(b.network, &again));
    assert_string_equal(plan, again);
    free(plan);
    free(again);
    bench_close(&a);
    bench_close(&b);
}

// The order of every sum is fixed, with several threads too.
static void test_same_bits_threads(void **state)
{
    (void)state;
    struct problem p = {"conv4", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 2};
    struct bench a;
    open_cpu(&a, &p, NULL);
    float *first = malloc(a.graph->total * sizeof *first);
    step(&a, 8);
    memcpy(first, a.gradient_arena, a.graph->total * sizeof *first);
    for (int i = 0; i < 3; i++) {
        memset(a.gradient_arena, 0, a.graph->total * sizeof *first);
        step(&a, 8);
        assert_memory_equal(a.gradient_arena, first, a.graph->total * sizeof *first);
    }
    free(first);
    bench_close(&a);
}

// A step allocates nothing once its batch size has been met.
static void test_memory_stays(void **state)
{
    (void)state;
    struct problem p = {"conv4", NORM_BATCH, ACTIVATION_RELU, 32, 10, 8, 1};
    struct bench a;
    open_cpu(&a, &p, NULL);
    step(&a, 8);
    step(&a, 3);
    size_t bytes = network_memory(a.network), heap = mallinfo2().uordblks;
    for (int i = 0; i < 20; i++)
        step(&a, i % 2 ? 8 : 3);
    assert_int_equal(network_memory(a.network), bytes);
    assert_true(mallinfo2().uordblks <= heap + 4096);
    bench_close(&a);
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
    struct bench a;
    open_cpu(&a, &p, NULL);
    struct coverage c = {calloc(a.graph->total, sizeof(bool))};
    struct ready_callback ready = {cover, &c};
    step(&a, 4);
    OK(network_backward(a.network, a.gradient_arena, a.on_engine.scalars, &ready));
    for (size_t i = 0; i < a.graph->total; i++)
        assert_true(c.seen[i]);
    free(c.seen);
    bench_close(&a);
}

static void test_empty_microbatch(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 32, 5, 4, 1};
    struct bench a;
    open_cpu(&a, &p, NULL);
    step(&a, 4);
    step(&a, 0);
    for (size_t i = 0; i < a.graph->total; i++)
        assert_true(((float *)a.gradient_arena)[i] == 0.0f);
    bench_close(&a);
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
    OK(engine_open(&e, &options));
    assert_int_equal(network_create(&n, e, g, &net), RETORT_USAGE);
    engine_close(&e);
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_is_the_reference_one),
        cmocka_unit_test(test_parity_conv12),
        cmocka_unit_test(test_parity_conv4),
        cmocka_unit_test(test_parity_narrow),
        cmocka_unit_test(test_parity_direct),
        cmocka_unit_test(test_parity_own),
        cmocka_unit_test(test_evaluation_alone),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_threads),
        cmocka_unit_test(test_memory_stays),
        cmocka_unit_test(test_ready_ranges),
        cmocka_unit_test(test_empty_microbatch),
        cmocka_unit_test(test_foreign_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
