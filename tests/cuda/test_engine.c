// The CUDA engine against the host engines: layer by layer, whole networks, pictures, losses,
// plans, groups; in f32 and bf16.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"
#include "tests/cuda/plan_text.h"
#include "tests/models/support.h"
#ifdef TEST_SOFTGPU
#include "tests/softgpu/softgpu.h"
#endif

#define OK(call) assert_int_equal((call), RETORT_OK)

static const char *device = "softgpu";

// ---- plans

// Whether BatchNorm's sums come with the products beside it: as timing has it, or not, or so.
enum sums { CHOSEN, APART, TOGETHER, SUMS };

// Such a network's plan, the caller's to free. NULL: by timing.
static char *plan_with(enum sums sums, const struct graph *g)
{
    char *plan = sums == CHOSEN ? NULL : plan_text(g, sums == TOGETHER);
    assert_true(sums == CHOSEN || plan != NULL);
    return plan;
}

// ---- one layer at a time

struct layer_case {
    enum node_kind kind;
    int channels, kernel, stride; // kernel: of a BatchNorm, the pool's behind it
    bool bias, relu;              // relu: of the node itself, or fused with the one before
};
static const struct layer_case LAYERS[] = {
    {NODE_CONV, 7, 1, 1, false, false},     {NODE_CONV, 9, 3, 1, true, false},
    {NODE_CONV, 10, 3, 2, false, false},    {NODE_CONV, 8, 3, 1, false, true},
    {NODE_CONV, 5, 5, 3, true, true},       {NODE_BATCHNORM, 0, 0, 0, false, false},
    {NODE_BATCHNORM, 0, 0, 0, false, true}, {NODE_BATCHNORM, 0, 3, 0, false, false},
    {NODE_BATCHNORM, 0, 2, 0, false, true}, {NODE_ACTIVATION, 0, 0, 0, false, true},
    {NODE_AVGPOOL, 0, 2, 0, false, false},  {NODE_AVGPOOL, 0, 3, 0, false, true},
    {NODE_LINEAR, 13, 0, 0, true, false},   {NODE_LINEAR, 9, 0, 0, true, true},
};

// The layer reads the pictures, or what a convolution of 6 channels (with padding) gives it, and
// then hands gradients on. That one reads biases where no samples are: gradients there must be
// zero.
static struct graph *layer_graph(const struct layer_case *c, bool behind)
{
    struct graph *g;
    OK(graph_begin(&g, "layer", 3, 5, 6));
    if (behind) {
        OK(graph_add_conv(g, "first", 4, 1, 1, true));
        OK(graph_add_conv(g, "before", 6, 3, 1, false));
    }
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
    if (c->kind == NODE_BATCHNORM && c->kernel > 0)
        OK(graph_add_avgpool(g, "pool", c->kernel));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    return g;
}

static void check_layer(const struct layer_case *c, bool behind, enum sums sums)
{
    struct graph *g = layer_graph(c, behind);
    char *plan = plan_with(sums, g);
    const struct bench_options cuda = {
        .device = device, .threads = 1, .max_batch = 4, .plan = plan};
    struct bench b, expected;
    bench_open_on(&b, &cuda, g, 3, 41);
    bench_open(&expected, layer_graph(c, behind), 3, 41);
    bench_check_alike(&b, &expected, 3e-6);
    bench_close(&b);
    bench_close(&expected);
    free(plan);
}

static void every_layer_is_the_reference_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(LAYERS) / sizeof(LAYERS[0]); i++) {
        check_layer(&LAYERS[i], false, CHOSEN);
        check_layer(&LAYERS[i], true, CHOSEN);
        if (LAYERS[i].kind == NODE_BATCHNORM) {
            check_layer(&LAYERS[i], true, APART);
            check_layer(&LAYERS[i], true, TOGETHER);
        }
    }
}

// What a pool leaves where no samples are is added up behind the next convolution.
static struct graph *pooled_graph(void)
{
    struct graph *g;
    OK(graph_begin(&g, "pooled", 3, 6, 5));
    OK(graph_add_conv(g, "conv1", 6, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm1", false));
    OK(graph_add_avgpool(g, "pool", 2));
    OK(graph_add_conv(g, "conv2", 9, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm2", false));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    return g;
}

static void pools_keep_padding_zero(void **state)
{
    (void)state;
    struct graph *g = pooled_graph();
    char *plan = plan_with(TOGETHER, g);
    const struct bench_options cuda = {
        .device = device, .threads = 1, .max_batch = 4, .plan = plan};
    struct bench b, expected;
    bench_open_on(&b, &cuda, g, 3, 47);
    bench_open(&expected, pooled_graph(), 3, 47);
    bench_check_alike(&b, &expected, 1e-5);
    bench_close(&b);
    bench_close(&expected);
    free(plan);
}

// More channels than a block has beside each other, and more rows than all blocks take in one turn;
// no ReLU, which among so many values would open here and stay shut there.
static struct graph *wide_graph(void)
{
    struct graph *g;
    OK(graph_begin(&g, "wide", 3, 17, 17));
    OK(graph_add_conv(g, "conv", 2056, 1, 1, false));
    OK(graph_add_batchnorm(g, "norm", false));
    OK(graph_add_avgpool(g, "pool", 17));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    return g;
}

// A ReLU between two convolutions, whose mask is found again from what the BatchNorm read; channels
// and samples are padded.
static struct graph *masked_graph(int stride)
{
    struct graph *g;
    OK(graph_begin(&g, "masked", 3, 6, 5));
    OK(graph_add_conv(g, "conv1", 6, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm1", false));
    OK(graph_add_activation(g, "act1", ACTIVATION_RELU));
    OK(graph_add_conv(g, "conv2", 9, 3, stride, true));
    OK(graph_add_linear(g, "fc", 5));
    OK(graph_finish(g));
    return g;
}

static void masked_gradients_are_the_reference_ones(void **state)
{
    (void)state;
    for (int stride = 1; stride <= 2; stride++)
        for (enum sums sums = APART; sums <= TOGETHER; sums++) {
            struct graph *g = masked_graph(stride);
            char *plan = plan_with(sums, g);
            const struct bench_options cuda = {
                .device = device, .threads = 1, .max_batch = 4, .plan = plan};
            struct bench b, expected;
            bench_open_on(&b, &cuda, g, 3, 53);
            bench_open(&expected, masked_graph(stride), 3, 53);
            bench_check_alike(&b, &expected, 1e-5);
            bench_close(&b);
            bench_close(&expected);
            free(plan);
        }
}

static void wide_layers_are_the_reference_ones(void **state)
{
    (void)state;
    for (enum sums sums = APART; sums <= TOGETHER; sums++) {
        struct graph *g = wide_graph();
        char *plan = plan_with(sums, g);
        const struct bench_options cuda = {
            .device = device, .threads = 1, .max_batch = 4, .plan = plan};
        struct bench b, expected;
        bench_open_on(&b, &cuda, g, 4, 43);
        bench_open(&expected, wide_graph(), 4, 43);
        bench_check_alike(&b, &expected, 1e-5);
        bench_close(&b);
        bench_close(&expected);
        free(plan);
    }
}

// ---- whole networks

static struct graph *network(const char *arch, int64_t norm, int64_t activation, int size)
{
    struct graph *g;
    struct graph_options options = {3, size, size, 10, norm, activation};
    OK(graph_create(&g, arch, &options));
    return g;
}

static void open_network(struct bench *b, const char *on, int64_t precision, const char *plan,
                         struct graph *g, int count)
{
    const struct bench_options options = {
        .device = on, .threads = 1, .max_batch = 6, .plan = plan, .precision = precision};
    bench_open_on(b, &options, g, count, 3);
}

// A ReLU whose argument is within rounding of zero may open in one engine and stay shut in the
// other; without ReLU there is nothing to flip.
static void networks_are_the_reference_ones(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int64_t norm;
        int size;
        enum sums sums;
    } CASES[] = {{"conv4/6", NORM_BATCH, 16, APART},
                 {"conv4/6", NORM_BATCH, 16, TOGETHER},
                 {"conv4/6", NORM_NONE, 16, CHOSEN},
                 {"conv4/6", NORM_BATCH_SYNC, 16, TOGETHER},
                 {"conv12/4", NORM_BATCH, 32, CHOSEN}};
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
        for (int relu = 0; relu < 2; relu++) {
            int64_t activation = relu ? ACTIVATION_RELU : ACTIVATION_NONE;
            struct graph *graphs[2];
            struct bench b, expected;
            for (int k = 0; k < 2; k++)
                graphs[k] = network(CASES[i].arch, CASES[i].norm, activation, CASES[i].size);
            char *plan = plan_with(CASES[i].sums, graphs[0]);
            open_network(&b, device, 0, plan, graphs[0], 5);
            open_network(&expected, "reference", 0, NULL, graphs[1], 5);
            bench_check_alike(&b, &expected, relu ? 5e-2 : 1e-4);
            assert_true(relu ||
                        test_difference(b.gradients, expected.gradients, b.graph->total) <= 1e-5);
            bench_close(&b);
            bench_close(&expected);
            free(plan);
        }
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

// Of `factor` times the reference's gradients.
static void check_narrow(int64_t precision, int64_t norm, enum sums sums, double factor,
                         double most, double least)
{
    struct bench b, expected;
    struct graph *g = network("conv4/6", norm, ACTIVATION_RELU, 16);
    char *plan = plan_with(sums, g);
    double ours[60], theirs[60];
    struct loss_scale scale = {.scale = (float)factor}, *there = NULL;
    open_network(&b, device, precision, plan, g, 6);
    open_network(&expected, "reference", 0, NULL, network("conv4/6", norm, ACTIVATION_RELU, 16), 6);
    if (precision == PRECISION_FP16) {
        there = engine_alloc(b.engine, sizeof(*there));
        OK(engine_upload(b.engine, there, &scale, sizeof(scale)));
        b.loss.scale = there;
    }
    assert_true(fabs(bench_step(&b) / bench_step(&expected) - 1.0) <
                most); // the loss is not scaled
    for (size_t k = 0; k < 60; k++) {
        ours[k] = bench_logit(&b, k);
        theirs[k] = bench_logit(&expected, k);
    }
    assert_true(test_difference(ours, theirs, 60) < most);
    assert_true(test_difference(ours, theirs, 60) > least); // it is narrow
    assert_true(cosine(b.gradients, expected.gradients, b.graph->trainable) >= 0.98);
    for (size_t i = 0; i < b.graph->trainable; i++)
        b.gradients[i] /= factor;
    assert_true(test_difference(b.gradients, expected.gradients, b.graph->total) < 0.2);
    engine_free(b.engine, there);
    bench_close(&b);
    bench_close(&expected);
    free(plan);
}

static void narrow_types_are_near(void **state)
{
    (void)state;
    static const int64_t norms[SUMS] = {
        [CHOSEN] = NORM_NONE, [APART] = NORM_BATCH, [TOGETHER] = NORM_BATCH};
    for (enum sums sums = CHOSEN; sums < SUMS; sums++) {
        check_narrow(PRECISION_BF16, norms[sums], sums, 1.0, 3e-2, 1e-5);
        check_narrow(PRECISION_FP16, norms[sums], sums, 1024.0, 5e-3, 1e-6);
    }
}

// A last, smaller batch gives the bits of one that was never larger.
static void check_batches(enum sums sums)
{
    struct bench b, fresh;
    struct graph *g = network("conv4/6", NORM_BATCH, ACTIVATION_RELU, 16);
    char *plan = plan_with(sums, g);
    open_network(&b, device, 0, plan, g, 6);
    open_network(&fresh, device, 0, plan, network("conv4/6", NORM_BATCH, ACTIVATION_RELU, 16), 4);
    for (int i = 0; i < 3; i++) {
        bench_random_pictures(&b, 6, 70 + (uint64_t)i);
        bench_step(&b);
    }
    bench_random_pictures(&b, 4, 5);
    bench_random_pictures(&fresh, 4, 5);
    bench_step(&b);
    bench_step(&fresh);
    assert_memory_equal(b.gradients, fresh.gradients, b.graph->total * sizeof(double));
    bench_random_pictures(&b, 0, 5);
    bench_step(&b);
    for (size_t i = 0; i < b.graph->total; i++)
        assert_true(b.gradients[i] == 0.0);
    bench_close(&b);
    bench_close(&fresh);
    free(plan);
}

static void batches_leave_nothing_behind(void **state)
{
    (void)state;
    check_batches(APART);
    check_batches(TOGETHER);
}

static int cover(void *context, int microbatch, size_t begin, size_t end)
{
    bool *seen = context;
    assert_int_equal(microbatch, 0);
    for (size_t i = begin; i < end; i++) {
        assert_false(seen[i]);
        seen[i] = true;
    }
    return RETORT_OK;
}

// What is reported ready covers the arena once, and memory is given back.
static void ready_ranges_cover_the_arena(void **state)
{
    (void)state;
    struct bench b;
    open_network(&b, device, 0, NULL, network("conv4/12", NORM_BATCH, ACTIVATION_RELU, 16), 2);
    bool *seen = calloc(b.graph->total, sizeof(*seen));
    struct ready_callback ready = {cover, seen};
    bench_step(&b);
    OK(network_backward(b.network, b.gradient_arena, b.on_engine.scalars, &ready));
    for (size_t i = 0; i < b.graph->total; i++)
        assert_true(seen[i]);
    free(seen);
    bench_close(&b);
}

#ifdef TEST_SOFTGPU
struct moments {
    uint64_t kernels[64];
    int count;
};

static int note_moment(void *context, int microbatch, size_t begin, size_t end)
{
    struct moments *m = context;
    assert_int_equal(microbatch, 0);
    assert_true(begin < end && m->count < 64);
    m->kernels[m->count++] = softgpu_kernels_run();
    return RETORT_OK;
}

// A range is reported when it is queued, and what comes before its layer is not: what the callback
// queues comes in between. (On a software GPU that runs at once what is queued.)
static void ranges_are_reported_as_they_are_queued(void **state)
{
    (void)state;
    struct bench b;
    struct moments m = {0};
    struct ready_callback ready = {note_moment, &m};
    open_network(&b, device, 0, NULL, network("conv4/12", NORM_BATCH, ACTIVATION_RELU, 16), 2);
    for (int step = 0; step < 3; step++) { // a replay would tell nothing
        bench_step(&b);
        m.count = 0;
        OK(network_backward(b.network, b.gradient_arena, b.on_engine.scalars, &ready));
        assert_true(m.count >= 1 + 2 + 2 * 4); // statistics, linear layers, convolutions and norms
        for (int i = 1; i < m.count; i++)
            assert_true(m.kernels[i] > m.kernels[i - 1]);
    }
    bench_close(&b);
}
#endif

// ---- plans

static int create_by(struct bench *b, int max_batch, bool training, const char *plan)
{
    struct network_options options = {.max_batch = max_batch, .training = training, .plan = plan};
    struct network *n;
    int rc = network_create(&n, b->engine, b->graph, &options);
    if (rc == RETORT_OK)
        network_destroy(&n);
    return rc;
}

// An engine that cuDNN does not have.
static void check_unknown_engine(struct bench *b, const char *plan, const char *word)
{
    char damaged[4096];
    const char *at = strstr(plan, word);
    if (at == NULL)
        return;
    int behind = (int)(at - plan) + (int)strlen(word);
    snprintf(damaged, sizeof(damaged), "%.*s99999%s", behind, plan, plan + behind);
    assert_int_equal(create_by(b, 6, true, damaged), RETORT_USAGE);
    OK(create_by(b, 3, false, damaged)); // made for another batch: it need not be followed
}

// Those, a plan that ends too early, and one of somebody else.
static void bad_plans_are_refused(struct bench *b, const char *plan)
{
    const char *last = strrchr(plan, '=');
    char damaged[4096];
    assert_non_null(last);
    check_unknown_engine(b, plan, " out=");
    check_unknown_engine(b, plan, " sums=");
    check_unknown_engine(b, plan, " insums=");
    snprintf(damaged, sizeof(damaged), "%.*s", (int)(last - plan) + 1, plan);
    assert_int_equal(create_by(b, 6, true, damaged), RETORT_USAGE);
    assert_int_equal(create_by(b, 3, false, "conv1 fwd=direct;"), RETORT_USAGE);
}

// Of the four convolutions before a BatchNorm, and the three behind one, those whose sums come with
// them. cuDNN may have none in f32, and behind none at all.
static void check_sums(const char *plan, enum sums sums, int64_t precision)
{
    int before = plan_text_count(plan, " sums="), behind = plan_text_count(plan, " insums=");
    bool narrow = precision == PRECISION_BF16 || precision == PRECISION_FP16;
    bool soft = strcmp(device, "softgpu") == 0;
    if (sums == APART)
        assert_int_equal(before + behind, 0);
    if (sums == TOGETHER && (narrow || soft))
        assert_int_equal(before, 4);
    if (sums == TOGETHER && soft)
        assert_int_equal(behind, 3);
}

static void check_plan(enum sums sums, int64_t precision)
{
    struct bench a, b;
    char *plan, *again;
    struct graph *g = network("conv4/6", NORM_BATCH, ACTIVATION_RELU, 16);
    char *asked = plan_with(sums, g);
    open_network(&a, device, precision, asked, g, 6);
    OK(network_plan(a.network, &plan));
    check_sums(plan, sums, precision);
    open_network(&b, device, precision, plan, network("conv4/6", NORM_BATCH, ACTIVATION_RELU, 16),
                 6);
    OK(network_plan(b.network, &again));
    assert_string_equal(plan, again);
    bench_step(&a);
    bench_step(&b);
    assert_memory_equal(a.gradients, b.gradients, a.graph->total * sizeof(double));
    OK(create_by(&b, 3, false, plan)); // another batch and evaluation only
    bad_plans_are_refused(&b, plan);
    free(asked);
    free(plan);
    free(again);
    bench_close(&a);
    bench_close(&b);
}

static void plans_fix_the_bits(void **state)
{
    (void)state;
    static const int64_t precisions[] = {PRECISION_F32, PRECISION_TF32, PRECISION_BF16,
                                         PRECISION_FP16};
    for (int i = 0; i < 4; i++)
        for (enum sums sums = CHOSEN; sums < SUMS; sums++)
            check_plan(sums, precisions[i]);
}

// ---- pictures

enum { HEIGHT = 6, WIDTH = 5, VALUES = 3 * HEIGHT * WIDTH, PICTURES = 4 };

// A network whose logits are the picture's values, in (C, H, W) order.
static struct graph *identity(void)
{
    struct graph *g;
    OK(graph_begin(&g, "identity", 3, HEIGHT, WIDTH));
    OK(graph_add_linear(g, "fc", VALUES));
    OK(graph_finish(g));
    return g;
}

struct seen {
    double values[PICTURES][VALUES];
    uint64_t digests[PICTURES];
};

static void see(struct seen *s, const char *on, enum augment_kind augment, uint32_t view,
                bool pixels_on_engine)
{
    static const int64_t slots[PICTURES] = {2, 0, 3, 1}, ids[PICTURES] = {17, 3, 5000000000, 0};
    uint8_t pixels[PICTURES][VALUES];
    struct bench b;
    open_network(&b, on, 0, NULL, identity(), 1);
    memset(b.weights, 0, b.graph->total * sizeof(double));
    for (int c = 0; c < VALUES; c++)
        b.weights[c * (VALUES + 1)] = 1.0;
    bench_set_weights(&b);
    for (int i = 0; i < PICTURES; i++)
        for (int k = 0; k < VALUES; k++)
            pixels[i][k] = (uint8_t)(128.0 + 127.0 * test_uniform(9, (uint64_t)(i * VALUES + k)));
    void *there = engine_alloc(b.engine, sizeof(pixels));
    OK(engine_upload(b.engine, there, pixels, sizeof(pixels)));
    struct picture_batch batch = {.pixels = pixels_on_engine ? there : (void *)pixels,
                                  .slot = slots,
                                  .sample_id = ids,
                                  .count = PICTURES,
                                  .augment = augment,
                                  .seed = 77,
                                  .domain = RANDOM_AUGMENT_STUDENT,
                                  .view = view};
    OK(input_load(b.input, &batch, s->digests));
    OK(network_forward(b.network, b.input, FORWARD_EVAL));
    for (int i = 0; i < PICTURES; i++)
        for (int k = 0; k < VALUES; k++)
            s->values[i][k] = bench_logit(&b, (size_t)i * VALUES + (size_t)k);
    engine_free(b.engine, there);
    bench_close(&b);
}

static void pictures_are_the_cpus(void **state)
{
    (void)state;
    for (uint32_t view = 0; view < 4; view++) {
        struct seen ours, theirs;
        enum augment_kind augment = view == 3 ? AUGMENT_NONE : AUGMENT_CROP_FLIP;
        see(&ours, device, augment, view, view % 2 == 0);
        see(&theirs, "cpu", augment, view, true);
        assert_memory_equal(ours.values, theirs.values, sizeof(ours.values));
        assert_memory_equal(ours.digests, theirs.digests, sizeof(ours.digests));
    }
}

// ---- losses

// More rows than slices of the sums, and more classes than lanes of a warp.
enum { LOSS_ROWS = 37, LOSS_CLASSES = 75 };

static void open_losses(struct bench *b, const char *on)
{
    const struct bench_options options = {.device = on, .threads = 1, .max_batch = LOSS_ROWS};
    struct graph *g;
    OK(graph_begin(&g, "losses", 3, 4, 4));
    OK(graph_add_linear(g, "fc", LOSS_CLASSES));
    OK(graph_finish(g));
    bench_open_on(b, &options, g, LOSS_ROWS, 3);
}

static void losses_are_the_reference_ones(void **state)
{
    (void)state;
    static const struct loss_spec SPECS[] = {
        {.kind = DISTILL_NONE, .label_smoothing = 0.1},
        {.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3},
        {.kind = DISTILL_KD,
         .reduction = REDUCTION_ELEMENTWISE,
         .temperature = 2.0,
         .alpha = 0.9,
         .label_smoothing = 0.05},
    };
    static uint16_t teacher[LOSS_ROWS * LOSS_CLASSES];
    for (size_t i = 0; i < LOSS_ROWS * LOSS_CLASSES; i++)
        teacher[i] = (uint16_t)(0x3c00 + i * 37 % 1500); // 1 to 5
    for (size_t k = 0; k < sizeof(SPECS) / sizeof(SPECS[0]); k++) {
        struct bench b, expected, *both[] = {&b, &expected};
        open_losses(&b, device);
        open_losses(&expected, "reference");
        size_t bias = b.graph->params[1].offset;
        for (int i = 0; i < 2; i++) {
            both[i]->loss = SPECS[k];
            both[i]->teacher = teacher;
            both[i]->weights[bias + 1] += 6.0; // of the first row's label
            both[i]->weights[bias + 8] += 5.0; // of the second's
            bench_step(both[i]);
        }
        assert_true(expected.sums[LOSS_TOP1] > 0.0 &&
                    expected.sums[LOSS_TOP5] > expected.sums[LOSS_TOP1]);
        for (int i = 0; i < LOSS_SUMS; i++)
            assert_true(fabs(b.sums[i] - expected.sums[i]) <= 1e-5 * fabs(expected.sums[i]));
        assert_true(test_difference(b.gradients, expected.gradients, b.graph->total) < 1e-5);
        bench_close(&b);
        bench_close(&expected);
    }
}

// ---- a group

enum { BATCH = 6, PARTS = 4 };
static const int COUNTS[PARTS] = {3, 2, 0, 1}; // one is empty, as in a last batch

struct whole {
    struct engine *engine;
    int stops;
};

static int add_parts(void *context, double *const *sums, int microbatches, size_t count)
{
    struct whole *w = context;
    assert_int_equal(microbatches, PARTS);
    for (int k = 1; k < microbatches; k++) {
        OK(engine_add(w->engine, sums[0], sums[k], count, REAL_F64));
        OK(engine_zero(w->engine, sums[k], count * sizeof(double)));
    }
    w->stops++;
    return RETORT_OK;
}

struct parts {
    struct network_group *group;
    struct input *inputs[PARTS];
    void *gradients[PARTS];
};

// Part k has the pictures that come after the parts before it.
static void parts_open(struct parts *p, struct bench *b, const struct batch_sum *sum)
{
    struct picture_format format = {
        .height = 16, .width = 16, .mean = {0.5, 0.5, 0.5}, .deviation = {0.25, 0.25, 0.25}};
    size_t picture = 3 * 16 * 16;
    double *values = malloc(BATCH * picture * sizeof(*values)), *from = values;
    for (size_t i = 0; i < BATCH * picture; i++)
        values[i] = 1.5 * test_uniform(5, i);
    OK(network_group_create(&p->group, b->network, PARTS, sum));
    for (int k = 0; k < PARTS; k++) {
        OK(input_create(&p->inputs[k], b->engine, &format, BATCH));
        OK(input_load_values(p->inputs[k], from, COUNTS[k]));
        from += (size_t)COUNTS[k] * picture;
        p->gradients[k] = k > 1 ? p->gradients[1] : engine_alloc(b->engine, bench_bytes(b));
        assert_non_null(p->gradients[k]);
    }
    free(values);
}

static void parts_close(struct parts *p, struct bench *b)
{
    network_group_destroy(&p->group);
    for (int k = 0; k < PARTS; k++) {
        input_destroy(&p->inputs[k]);
        if (k <= 1)
            engine_free(b->engine, p->gradients[k]);
    }
}

// All parts but the first have one arena: ranges are taken out of it as they are ready.
struct sharing {
    struct engine *engine;
    float *first, *others;
};

static int add_ready(void *context, int microbatch, size_t begin, size_t end)
{
    const struct sharing *s = context;
    return microbatch == 0
               ? RETORT_OK
               : engine_add(s->engine, s->first + begin, s->others + begin, end - begin, REAL_F32);
}

// The sum of the parts' gradients, in b->gradients.
static void parts_step(struct parts *p, struct bench *b)
{
    const int64_t *id = b->ids;
    struct sharing sharing = {b->engine, p->gradients[0], p->gradients[1]};
    const struct ready_callback ready = {add_ready, &sharing};
    bench_set_weights(b);
    b->scalars.inverse_batch = 1.0 / BATCH;
    OK(engine_upload(b->engine, b->on_engine.scalars, &b->scalars, sizeof(b->scalars)));
    OK(engine_upload(b->engine, b->on_engine.labels, b->labels, sizeof(b->labels)));
    OK(network_group_forward(p->group, (const struct input *const *)p->inputs));
    for (int k = 0; k < PARTS; k++) {
        struct loss_targets targets = {
            .labels = b->on_engine.labels, .sample_id = id, .count = COUNTS[k]};
        OK(network_loss(network_group_member(p->group, k), &targets, &b->loss, b->on_engine.scalars,
                        b->on_engine.sums));
        id += COUNTS[k];
    }
    OK(network_group_backward(p->group, p->gradients, b->on_engine.scalars, &ready));
    bench_take(b, b->gradients, p->gradients[0], b->graph->total);
}

// BatchNorm synchronised over parts is a plain one over the whole.
// A forward in which the empty part has a picture: nothing of it may be left in the next.
static void fill_empty_part(struct parts *p)
{
    static const double picture[3 * 16 * 16];
    OK(input_load_values(p->inputs[2], picture, 1));
    OK(network_group_forward(p->group, (const struct input *const *)p->inputs));
    OK(input_load_values(p->inputs[2], picture, 0));
}

static void check_parts(enum sums sums)
{
    struct bench b, expected;
    struct parts p;
    struct graph *g = network("conv4/4", NORM_BATCH_SYNC, ACTIVATION_NONE, 16);
    char *plan = plan_with(sums, g);
    open_network(&b, device, 0, plan, g, 6);
    open_network(&expected, "reference", 0, NULL,
                 network("conv4/4", NORM_BATCH, ACTIVATION_NONE, 16), 6);
    struct whole whole = {b.engine, 0};
    const struct batch_sum sum = {add_parts, &whole};
    parts_open(&p, &b, &sum);
    parts_step(&p, &b);
    fill_empty_part(&p);
    parts_step(&p, &b);
    assert_int_equal(whole.stops, (2 + 1 + 2) * 4);
    bench_random_pictures(&expected, BATCH, 5);
    bench_step(&expected);
    for (int i = 0; i < b.graph->param_count; i++) {
        const struct param *q = &b.graph->params[i];
        double apart =
            test_difference(b.gradients + q->offset, expected.gradients + q->offset, q->count);
        if (!(apart <= 1e-4))
            fail_msg("%s is %.3g apart", q->name, apart);
    }
    parts_close(&p, &b);
    bench_close(&b);
    bench_close(&expected);
    free(plan);
}

static void parts_are_the_whole(void **state)
{
    (void)state;
    check_parts(APART);
    check_parts(TOGETHER);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        device = argv[1];
    if (!bench_has_device(device))
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layer_is_the_reference_one),
        cmocka_unit_test(pools_keep_padding_zero),
        cmocka_unit_test(masked_gradients_are_the_reference_ones),
        cmocka_unit_test(wide_layers_are_the_reference_ones),
        cmocka_unit_test(networks_are_the_reference_ones),
        cmocka_unit_test(narrow_types_are_near),
        cmocka_unit_test(batches_leave_nothing_behind),
        cmocka_unit_test(ready_ranges_cover_the_arena),
#ifdef TEST_SOFTGPU
        cmocka_unit_test(ranges_are_reported_as_they_are_queued),
#endif
        cmocka_unit_test(plans_fix_the_bits),
        cmocka_unit_test(pictures_are_the_cpus),
        cmocka_unit_test(losses_are_the_reference_ones),
        cmocka_unit_test(parts_are_the_whole),
    };
    return cmocka_run_group_tests_name("CUDA engine", tests, NULL, NULL);
}
