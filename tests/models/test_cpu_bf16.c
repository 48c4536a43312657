// The oneDNN engine in bf16 against the reference engine, where the processor has AVX-512-bf16 or
// AMX: elsewhere the engine must refuse, and the rest is skipped.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { CLASSES = 10, MOST_LOGITS = TEST_MAX_BATCH * CLASSES };
static const double LOGITS_APART = 3e-2, GRADIENTS_ALIKE = 0.98, NORMS_ALIKE = 0.9;

// ---- a network on both engines

struct problem {
    const char *arch;
    int64_t norm, activation;
    int size, max_batch, threads;
};

static struct graph *make_graph(const struct problem *p)
{
    struct graph *g = NULL;
    struct graph_options options = {3, p->size, p->size, CLASSES, p->norm, p->activation};
    OK(graph_create(&g, p->arch, &options));
    return g;
}

static void open_narrow(struct bench *b, const struct problem *p, const char *plan)
{
    const struct bench_options options = {.device = "cpu",
                                          .threads = p->threads,
                                          .max_batch = p->max_batch,
                                          .plan = plan,
                                          .precision = PRECISION_BF16};
    bench_open_on(b, &options, make_graph(p), p->max_batch, 3);
}

static void open_reference(struct bench *b, const struct problem *p)
{
    const struct bench_options options = {
        .device = "reference", .threads = 1, .max_batch = p->max_batch};
    bench_open_on(b, &options, make_graph(p), p->max_batch, 3);
}

static double cosine(const double *a, const double *b, size_t count)
{
    double ab = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < count; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void check_logits(const struct bench *b, const struct bench *expected)
{
    double ours[MOST_LOGITS], theirs[MOST_LOGITS];
    size_t count = (size_t)b->count * b->graph->classes;
    assert_true(count <= MOST_LOGITS);
    for (size_t i = 0; i < count; i++) {
        ours[i] = bench_logit(b, i);
        theirs[i] = bench_logit(expected, i);
    }
    double apart = test_difference(ours, theirs, count);
    if (!(apart < LOGITS_APART && apart > 1e-6)) // f32 would be nearer
        fail_msg("%s: logits are %.3g apart", b->graph->arch, apart);
}

// Gradients, and statistics, of each parameter point the same way and are as long.
static void check_gradients(const struct bench *b, const struct bench *expected)
{
    for (int i = 0; i < b->graph->param_count; i++) {
        const struct param *p = &b->graph->params[i];
        // Where another BatchNorm follows, this one's scale and shift move the loss by the rest of
        // a sum that cancels (support.c), in which rounding is large: they are measured together,
        // and more roughly. (test_bf16_kernels.c has their sums to the bit.)
        bool norm = p->role == PARAM_GAMMA || p->role == PARAM_BETA;
        const struct param *first = p->role == PARAM_BETA ? p - 1 : p;
        size_t count = norm ? 2 * p->count : p->count;
        const double *ours = b->gradients + first->offset;
        const double *theirs = expected->gradients + first->offset;
        double alike = cosine(ours, theirs, count), apart = test_difference(ours, theirs, count);
        if (!(alike >= (norm ? NORMS_ALIKE : GRADIENTS_ALIKE) && apart < (norm ? 0.6 : 0.25)))
            fail_msg("%s: %s has cosine %.4f and is %.3g apart", b->graph->arch, p->name, alike,
                     apart);
    }
}

static void check_near(struct bench *b, struct bench *expected)
{
    double ours = bench_step(b), theirs = bench_step(expected);
    assert_true(fabs(ours / theirs - 1.0) < LOGITS_APART);
    check_logits(b, expected);
    check_gradients(b, expected);
    bench_loss(b, FORWARD_EVAL);
    bench_loss(expected, FORWARD_EVAL);
    check_logits(b, expected);
}

// ---- one layer at a time

struct layer_case {
    enum node_kind kind;
    int channels, kernel, stride;
    bool bias, relu; // relu: of the node itself, or fused with the one before
};
static const struct layer_case LAYERS[] = {
    {NODE_CONV, 7, 1, 1, false, false},     {NODE_CONV, 16, 3, 1, true, false},
    {NODE_CONV, 20, 3, 2, false, true},     {NODE_CONV, 5, 5, 3, true, true},
    {NODE_BATCHNORM, 0, 0, 0, false, true}, {NODE_ACTIVATION, 0, 0, 0, false, true},
    {NODE_AVGPOOL, 0, 2, 0, false, false},  {NODE_LINEAR, 13, 0, 0, true, false},
    {NODE_LINEAR, 40, 0, 0, true, true},
};

// The layer reads the pictures, or what a convolution of 18 channels (with padding) gives it.
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
    OK(graph_add_linear(g, "fc", CLASSES));
    OK(graph_finish(g));
    return g;
}

static void every_layer_is_near_the_reference_one(void **state)
{
    (void)state;
    const struct bench_options cpu = {
        .device = "cpu", .threads = 1, .max_batch = 8, .precision = PRECISION_BF16};
    for (size_t i = 0; i < sizeof(LAYERS) / sizeof(LAYERS[0]); i++)
        for (int behind = 0; behind < 2; behind++) {
            struct bench b, expected;
            bench_open_on(&b, &cpu, layer_graph(&LAYERS[i], behind), 5, 41);
            bench_open(&expected, layer_graph(&LAYERS[i], behind), 5, 41);
            check_near(&b, &expected);
            bench_close(&b);
            bench_close(&expected);
        }
}

// ---- whole networks

// A rounded argument may open a ReLU that is shut in the other engine, so that one layer after the
// other turns gradients by some per cent: the deep networks have none.
static void networks_are_near_the_reference_ones(void **state)
{
    (void)state;
    static const struct problem PROBLEMS[] = {
        {"conv4/2", NORM_BATCH, ACTIVATION_RELU, 16, 8, 1},
        {"conv4/4", NORM_NONE, ACTIVATION_RELU, 16, 8, 2},
        {"conv4/2", NORM_BATCH_SYNC, ACTIVATION_RELU, 16, 8, 1},
        {"conv12/2", NORM_BATCH, ACTIVATION_NONE, 32, 12, 2},
        {"conv12/2", NORM_BATCH_SYNC, ACTIVATION_NONE, 32, 12, 1},
    };
    for (size_t i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); i++) {
        struct bench b, expected;
        open_narrow(&b, &PROBLEMS[i], NULL);
        open_reference(&expected, &PROBLEMS[i]);
        check_near(&b, &expected);
        bench_close(&b);
        bench_close(&expected);
    }
}

// Without training, where BatchNorm is folded into the weights before they are rounded.
static void evaluation_is_near_the_reference_one(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 16, 8, 1};
    const struct bench_options options = {.device = "cpu",
                                          .threads = 1,
                                          .max_batch = p.max_batch,
                                          .evaluates = true,
                                          .precision = PRECISION_BF16};
    struct bench b, expected;
    bench_open_on(&b, &options, make_graph(&p), p.max_batch, 3);
    open_reference(&expected, &p);
    bench_loss(&b, FORWARD_EVAL);
    bench_loss(&expected, FORWARD_EVAL);
    check_logits(&b, &expected);
    bench_close(&b);
    bench_close(&expected);
}

// ---- steps

enum { STEPS = 6 };

static void update(struct bench *b, void *moment)
{
    const struct optimizer_spec spec = {
        .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true};
    struct arenas arenas = {.weights = b->arena,
                            .gradients = b->gradient_arena,
                            .moment1 = moment,
                            .end = b->graph->total};
    b->scalars.lr = 0.02;
    bench_step(b);
    OK(engine_update(b->engine, b->graph, &arenas, &spec, b->on_engine.scalars));
    bench_take(b, b->weights, b->arena, b->graph->total);
}

// Master weights are f32: six steps go where the reference engine's go.
static void momentum_steps_lead_the_same_way(void **state)
{
    (void)state;
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 16, 16, 1};
    struct bench b, expected, *both[] = {&b, &expected};
    double *moved[2];
    open_narrow(&b, &p, NULL);
    open_reference(&expected, &p);
    size_t trainable = b.graph->trainable;
    double first = bench_loss(&expected, FORWARD_TRAIN);
    for (int k = 0; k < 2; k++) {
        void *moment = engine_alloc(both[k]->engine, bench_bytes(both[k]));
        moved[k] = malloc(trainable * sizeof(double));
        assert_true(moment && moved[k]);
        memcpy(moved[k], both[k]->weights, trainable * sizeof(double));
        for (int i = 0; i < STEPS; i++)
            update(both[k], moment);
        for (size_t i = 0; i < trainable; i++)
            moved[k][i] = both[k]->weights[i] - moved[k][i];
        engine_free(both[k]->engine, moment);
    }
    assert_true(cosine(moved[0], moved[1], trainable) >= 0.95);
    double ours = bench_loss(&b, FORWARD_TRAIN), theirs = bench_loss(&expected, FORWARD_TRAIN);
    assert_true(theirs < 0.9 * first);
    assert_true(fabs(ours / theirs - 1.0) < 0.05);
    for (int k = 0; k < 2; k++) {
        free(moved[k]);
        bench_close(both[k]);
    }
}

// ---- bits

static void step(struct bench *b, int count)
{
    bench_random_pictures(b, count, 5);
    bench_step(b);
}

// Two networks that follow one plan give the same bits, whichever sizes and pictures they met
// before, on one thread and on two: so it does not matter which rank has which micro-batch.
static void same_bits(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        struct problem p = {"conv4/2", NORM_BATCH, ACTIVATION_RELU, 16, 8, threads};
        struct bench a, b;
        char *plan = NULL, *again = NULL;
        open_narrow(&a, &p, NULL);
        OK(network_plan(a.network, &plan));
        assert_non_null(strstr(plan, "bf16"));
        open_narrow(&b, &p, plan);
        OK(network_plan(b.network, &again));
        assert_string_equal(plan, again);
        step(&a, 8);
        step(&b, 5);
        bench_random_pictures(&b, 8, 6);
        bench_step(&b);
        bench_loss(&b, FORWARD_EVAL);
        step(&b, 8);
        assert_memory_equal(a.gradient_arena, b.gradient_arena, a.graph->total * sizeof(float));
        free(plan);
        free(again);
        bench_close(&a);
        bench_close(&b);
    }
}

// Training keeps to a plan of its own precision; evaluation of what was trained in another one need
// not.
static void plans_name_the_precision(void **state)
{
    (void)state;
    static const int64_t PRECISIONS[] = {PRECISION_F32, PRECISION_BF16};
    struct problem p = {"conv4/4", NORM_BATCH, ACTIVATION_RELU, 16, 4, 1};
    struct graph *g = make_graph(&p);
    char *plans[2];
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < 2; i++) {
            struct engine_options options = {"cpu", 1, 0, PRECISIONS[i], true};
            struct engine *e = NULL;
            struct network *n = NULL;
            OK(engine_open(&e, &options));
            assert_int_equal(strstr(engine_describe(e), ", bf16") != NULL, i);
            struct network_options net = {.max_batch = 4, .training = true};
            if (turn == 0) {
                OK(network_create(&n, e, g, &net));
                OK(network_plan(n, &plans[i]));
            } else {
                net.plan = plans[1 - i];
                assert_int_equal(network_create(&n, e, g, &net), RETORT_USAGE);
                net.training = false;
                OK(network_create(&n, e, g, &net));
            }
            network_destroy(&n);
            engine_close(&e);
        }
    free(plans[0]);
    free(plans[1]);
    graph_destroy(&g);
}

int main(void)
{
    const struct engine_options options = {"cpu", 1, 0, PRECISION_BF16, true};
    struct engine *e = NULL;
    int rc = engine_open(&e, &options);
    engine_close(&e);
    if (rc != RETORT_OK) {
        printf("no bf16 on this processor\n");
        return rc == RETORT_USAGE ? 77 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_is_near_the_reference_one),
        cmocka_unit_test(networks_are_near_the_reference_ones),
        cmocka_unit_test(evaluation_is_near_the_reference_one),
        cmocka_unit_test(momentum_steps_lead_the_same_way),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(plans_name_the_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
