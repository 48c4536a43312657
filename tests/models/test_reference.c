#include <math.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

static struct graph *network(const char *arch, int64_t norm, int size, int classes)
{
    struct graph *g;
    struct graph_options options = {.channels = 3,
                                    .height = size,
                                    .width = size,
                                    .classes = classes,
                                    .norm = norm,
                                    .activation = ACTIVATION_RELU};
    OK(graph_create(&g, arch, &options));
    return g;
}

// ---- derivatives

static void convolutions_match_differences(void **state)
{
    (void)state;
    struct bench b;
    struct graph *g;
    OK(graph_begin(&g, "convs", 3, 7, 6)); // odd and even sides, strides 1 to 3, kernels 1, 3, 5
    OK(graph_add_conv(g, "a", 4, 3, 1, true));
    OK(graph_add_conv(g, "b", 3, 1, 1, false));
    OK(graph_add_conv(g, "c", 5, 3, 2, true));
    OK(graph_add_conv(g, "d", 6, 5, 3, true));
    OK(graph_add_linear(g, "fc", 4));
    OK(graph_finish(g));
    bench_open(&b, g, 3, 11);
    bench_check_gradients(&b, 10);
    bench_close(&b);
}

static void batchnorm_matches_differences(void **state)
{
    (void)state;
    struct bench b;
    struct graph *g;
    OK(graph_begin(&g, "norms", 3, 3, 4));
    OK(graph_add_conv(g, "conv1", 4, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm1", false));
    OK(graph_add_conv(g, "conv2", 3, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm2", false));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    bench_open(&b, g, 4, 12);
    bench_check_gradients(&b, 10);
    bench_close(&b);
}

static void relu_and_pool_match_differences(void **state)
{
    (void)state;
    struct bench b;
    struct graph *g;
    OK(graph_begin(&g, "relu", 3, 7, 6)); // the pool leaves a row and a column out
    OK(graph_add_conv(g, "conv", 4, 3, 1, true));
    OK(graph_add_activation(g, "act", ACTIVATION_RELU));
    OK(graph_add_avgpool(g, "pool", 2));
    OK(graph_add_linear(g, "fc1", 6));
    OK(graph_add_activation(g, "act1", ACTIVATION_RELU));
    OK(graph_add_linear(g, "fc2", 3));
    OK(graph_finish(g));
    bench_open(&b, g, 3, 13);
    bench_check_gradients(&b, 10);
    bench_close(&b);
}

static void whole_network(const char *arch, int64_t norm, int size)
{
    struct bench b;
    bench_open(&b, network(arch, norm, size, 10), 3, 21);
    b.loss.label_smoothing = 0.1;
    bench_check_gradients(&b, 1);
    bench_close(&b);
}

static void conv12_matches_differences(void **state)
{
    (void)state;
    whole_network("conv12/6", NORM_NONE, 17);
    whole_network("conv12/6", NORM_BATCH, 17);
}

static void conv4_matches_differences(void **state)
{
    (void)state;
    whole_network("conv4/6", NORM_NONE, 16);
    whole_network("conv4/6", NORM_BATCH, 16);
}

// Cross-entropy and distillation in every combination of their settings, far from and at the ends.
static void losses_match_differences(void **state)
{
    (void)state;
    static const struct loss_spec LOSSES[] = {
        {.kind = DISTILL_NONE},
        {.kind = DISTILL_NONE, .label_smoothing = 0.1},
        {.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3},
        {.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3, .label_smoothing = 0.1},
        {.kind = DISTILL_KD, .temperature = 0.5, .alpha = 0.9},
        {.kind = DISTILL_KD, .temperature = 2.0, .alpha = 1.0},
        {.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3, .reduction = REDUCTION_ELEMENTWISE},
    };
    uint16_t teacher[4 * 10];
    for (size_t i = 0; i < 40; i++)
        teacher[i] = (uint16_t)(0x3c00 + 37 * i % 1024 + (i % 3 == 0 ? 0x8000 : 0)); // ±[1, 2)
    for (size_t i = 0; i < sizeof(LOSSES) / sizeof(LOSSES[0]); i++) {
        struct bench b;
        struct graph *g;
        OK(graph_begin(&g, "linear", 3, 2, 2));
        OK(graph_add_linear(g, "fc", 10));
        OK(graph_finish(g));
        bench_open(&b, g, 4, 22);
        b.teacher = teacher;
        b.loss = LOSSES[i];
        bench_check_gradients(&b, 10);
        bench_close(&b);
    }
}

// ---- values by hand

// A 2 × 2 picture under a 3 × 3 kernel with stride 2 and padding 1: output (0, 0) sees taps (1..2,
// 1..2) only. Only channel 0 of the picture is not zero.
static void convolution_gives_the_hand_computed_value(void **state)
{
    (void)state;
    struct bench b;
    struct graph *g;
    OK(graph_begin(&g, "conv", 3, 2, 2));
    OK(graph_add_conv(g, "conv", 2, 3, 2, true));
    OK(graph_finish(g));
    bench_open(&b, g, 1, 1);
    for (int i = 0; i < 54; i++)
        b.weights[i] = i;
    b.weights[54] = 0.5;
    b.weights[55] = -0.5;
    const double picture[12] = {1, 2, 3, 4};
    bench_pictures(&b, picture, 1);
    bench_loss(&b, FORWARD_EVAL);
    const double *y = network_logits(b.network);
    assert_true(y[0] == 1 * 4 + 2 * 5 + 3 * 7 + 4 * 8 + 0.5);
    assert_true(y[1] == 1 * 31 + 2 * 32 + 3 * 34 + 4 * 35 - 0.5); // 27 weights further on
    bench_close(&b);
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12 * (1.0 + fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

// Two samples of 1 × 1 pixels: channel 0 holds 1 and 3 (mean 2, biased variance 1, unbiased 2),
// channel 1 holds 5 and 5, channel 2 holds -2 and 4 (mean 1, biased 9, unbiased 18).
static void batchnorm_uses_the_right_statistics(void **state)
{
    (void)state;
    struct bench b;
    struct graph *g;
    OK(graph_begin(&g, "norm", 3, 1, 1));
    OK(graph_add_batchnorm(g, "norm", false));
    OK(graph_finish(g));
    bench_open(&b, g, 2, 1);
    // gamma, beta, running mean, running variance
    const double arena[12] = {2, 1, 1, 0.5, 0, 0, 7, 5, 1, 4, 1, 9};
    memcpy(b.weights, arena, sizeof(arena));
    const double pictures[6] = {1, 5, -2, 3, 5, 4};
    bench_pictures(&b, pictures, 2);

    bench_loss(&b, FORWARD_EVAL);
    const double *y = network_logits(b.network);
    near(y[0], 2.0 * (1.0 - 7.0) / sqrt(4.0 + 1e-5) + 0.5);
    near(y[5], (4.0 - 1.0) / sqrt(9.0 + 1e-5));

    b.scalars.inverse_batch = 1.0 / 8.0; // of a batch of 8 these are 2
    bench_step(&b);
    near(y[0], 2.0 * (1.0 - 2.0) / sqrt(1.0 + 1e-5) + 0.5);
    near(y[1], 0.0);
    near(y[5], 3.0 / sqrt(9.0 + 1e-5));
    const double *means = b.gradients + g->trainable, *variances = means + 3;
    near(means[0], 2.0 / 4.0);
    near(means[1], 5.0 / 4.0);
    near(means[2], 1.0 / 4.0);
    near(variances[0], 2.0 / 4.0);
    near(variances[1], 0.0);
    near(variances[2], 18.0 / 4.0);

    bench_pictures(&b, pictures, 1); // one value: its biased variance, 0, not 0 / 0
    bench_step(&b);
    near(means[2], -2.0);
    near(variances[2], 0.0);
    bench_close(&b);
}

static void flattening_is_channels_first(void **state)
{
    (void)state;
    struct bench b;
    bench_open_identity(&b, "reference", 12, 2);
    double pictures[24];
    for (int i = 0; i < 24; i++)
        pictures[i] = i * 0.25;
    bench_pictures(&b, pictures, 2);
    bench_loss(&b, FORWARD_EVAL);
    assert_memory_equal(network_logits(b.network), pictures, sizeof(pictures));
    bench_close(&b);
}

// ---- the contract

struct seen {
    size_t covered, calls;
    unsigned char *touched;
};

static int note_ready(void *context, int microbatch, size_t begin, size_t end)
{
    struct seen *seen = context;
    assert_int_equal(microbatch, 0);
    for (size_t i = begin; i < end; i++) {
        assert_int_equal(seen->touched[i], 0);
        seen->touched[i] = 1;
    }
    seen->covered += end - begin;
    seen->calls++;
    return RETORT_OK;
}

static int refuse_ready(void *context, int microbatch, size_t begin, size_t end)
{
    (void)context;
    (void)microbatch;
    (void)begin;
    (void)end;
    return RETORT_RANK;
}

static void backward_reports_every_range_once(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, network("conv4/4", NORM_BATCH, 16, 10), 2, 31);
    struct seen seen = {.touched = test_calloc(b.graph->total, 1)};
    struct ready_callback ready = {note_ready, &seen}, refuse = {refuse_ready, NULL};
    bench_loss(&b, FORWARD_TRAIN);
    OK(network_backward(b.network, b.gradient_arena, &b.scalars, &ready));
    assert_int_equal(seen.covered, b.graph->total);
    assert_true(seen.calls > 5);
    assert_int_equal(network_backward(b.network, b.gradient_arena, &b.scalars, &refuse),
                     RETORT_RANK);
    test_free(seen.touched);
    bench_close(&b);
}

static void an_empty_micro_batch_adds_nothing(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, network("conv4/4", NORM_BATCH, 16, 10), 0, 32);
    for (size_t i = 0; i < b.graph->total; i++)
        ((double *)b.gradient_arena)[i] = nan("");
    bench_step(&b);
    for (size_t i = 0; i < b.graph->total; i++)
        assert_true(b.gradients[i] == 0.0);
    for (int i = 0; i < LOSS_SUMS; i++)
        assert_true(b.sums[i] == 0.0);
    bench_close(&b);
}

// Gradients are scaled by the global batch, so those of micro-batches add up to the batch's.
static void micro_batches_add_up(void **state)
{
    (void)state;
    struct bench b;
    double whole[4000], values[4 * 3 * 16 * 16];
    bench_open(&b, network("conv4/12", NORM_NONE, 16, 3), 4, 33);
    size_t total = b.graph->total, picture = 3 * 16 * 16;
    assert_true(total <= 4000);
    for (size_t i = 0; i < 4 * picture; i++)
        values[i] = test_uniform(34, i);
    bench_pictures(&b, values, 4);
    bench_step(&b);
    memcpy(whole, b.gradients, total * sizeof(double));
    double sum[4000] = {0};
    for (int part = 0; part < 2; part++) {
        bench_pictures(&b, values + 2 * part * picture, 2);
        b.scalars.inverse_batch = 1.0 / 4.0;
        b.ids[0] = 2 * part;
        b.ids[1] = 2 * part + 1;
        bench_step(&b);
        OK(engine_add(b.engine, sum, b.gradients, total, REAL_F64));
    }
    for (size_t i = 0; i < total; i++)
        near(sum[i], whole[i]);
    bench_close(&b);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, network("conv4/4", NORM_BATCH, 16, 10), 2, 35);
    bench_loss(&b, FORWARD_EVAL);
    assert_int_equal(network_backward(b.network, b.gradient_arena, &b.scalars, NULL),
                     RETORT_FAILED);
    OK(network_forward(b.network, b.input, FORWARD_TRAIN));
    assert_int_equal(network_backward(b.network, b.gradient_arena, &b.scalars, NULL),
                     RETORT_FAILED);
    b.labels[1] = 10;
    struct loss_targets targets = {.labels = b.labels, .sample_id = b.ids, .count = 2};
    assert_int_equal(network_loss(b.network, &targets, &b.loss, &b.scalars, b.sums), RETORT_INPUT);

    struct network *other = NULL;
    struct network_options options = {.max_batch = 1, .training = false, .plan = "winograd"};
    assert_int_equal(network_create(&other, b.engine, b.graph, &options), RETORT_USAGE);
    options.plan = NULL;
    OK(network_create(&other, b.engine, b.graph, &options));
    assert_true(network_memory(other) < network_memory(b.network) / 8);
    OK(network_set_weights(other, b.arena));
    assert_int_equal(network_forward(other, b.input, FORWARD_EVAL), RETORT_FAILED); // 2 > 1
    network_destroy(&other);

    struct engine *none = NULL;
    struct engine_options abacus = {.device = "abacus"}, single = {.device = "reference"};
    single.precision = PRECISION_F32;
    assert_int_equal(engine_open(&none, &abacus), RETORT_USAGE);
    assert_int_equal(engine_open(&none, &single), RETORT_USAGE);
    assert_null(none);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_match_differences),
        cmocka_unit_test(batchnorm_matches_differences),
        cmocka_unit_test(relu_and_pool_match_differences),
        cmocka_unit_test(losses_match_differences),
        cmocka_unit_test(conv12_matches_differences),
        cmocka_unit_test(conv4_matches_differences),
        cmocka_unit_test(convolution_gives_the_hand_computed_value),
        cmocka_unit_test(batchnorm_uses_the_right_statistics),
        cmocka_unit_test(flattening_is_channels_first),
        cmocka_unit_test(backward_reports_every_range_once),
        cmocka_unit_test(an_empty_micro_batch_adds_nothing),
        cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
