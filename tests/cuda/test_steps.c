// Twenty training steps as a rank makes them: augmentation, forward, distillation, backward,
// momentum, EMA. Against the reference engine, and bit for bit whenever queued work runs: at once,
// as late as it may, or by any seed; plainly or replayed from CUDA graphs.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith/optimizer.h"
#include "base/error.h"
#include "models/graph_build.h"
#include "tests/models/support.h"
#ifdef TEST_SOFTGPU
#include "tests/softgpu/softgpu.h"
#endif

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { STEPS = 20, SAMPLES = 12, BATCH = 5, SIZE = 8, CLASSES = 5, SEEDS = 20 };
enum { PIXELS = SIZE * SIZE * 3 };

static const char *device = "softgpu";

static struct graph *graph_new(void)
{
    struct graph *g;
    OK(graph_begin(&g, "small", 3, SIZE, SIZE));
    OK(graph_add_conv(g, "conv1", 6, 3, 1, false));
    OK(graph_add_batchnorm(g, "norm1", false));
    OK(graph_add_activation(g, "act1", ACTIVATION_RELU));
    OK(graph_add_conv(g, "conv2", 9, 3, 2, true));
    OK(graph_add_activation(g, "act2", ACTIVATION_RELU));
    OK(graph_add_avgpool(g, "pool", 2));
    OK(graph_add_linear(g, "fc1", 8));
    OK(graph_add_activation(g, "act3", ACTIVATION_RELU));
    OK(graph_add_linear(g, "fc2", CLASSES));
    OK(graph_finish(g));
    return g;
}

// All of a rank's memory on one engine.
struct rank {
    struct engine *engine;
    struct graph *graph;
    struct network *network;
    struct input *input;
    struct arenas arenas;
    uint8_t *pixels;
    int32_t *labels;
    uint16_t *teacher;
    struct step_scalars *scalars;
    double *sums;
    double losses[STEPS];
};

static void *put(struct rank *r, const void *from, size_t bytes)
{
    void *p = engine_alloc(r->engine, bytes);
    assert_non_null(p);
    if (from != NULL)
        OK(engine_upload(r->engine, p, from, bytes));
    return p;
}

static void put_data(struct rank *r)
{
    uint8_t pixels[SAMPLES * PIXELS];
    int32_t labels[SAMPLES];
    uint16_t teacher[SAMPLES * CLASSES];
    for (uint64_t i = 0; i < sizeof(pixels); i++)
        pixels[i] = (uint8_t)(128.0 + 127.0 * test_uniform(1, i));
    for (int i = 0; i < SAMPLES; i++)
        labels[i] = i % CLASSES;
    for (int i = 0; i < SAMPLES * CLASSES; i++)
        teacher[i] = (uint16_t)(0x3c00 + i * 397 % 1800); // 1 to 6
    r->pixels = put(r, pixels, sizeof(pixels));
    r->labels = put(r, labels, sizeof(labels));
    r->teacher = put(r, teacher, sizeof(teacher));
    r->scalars = put(r, NULL, sizeof(*r->scalars));
    r->sums = put(r, NULL, LOSS_SUMS * sizeof(double));
}

static void put_arenas(struct rank *r)
{
    size_t bytes = r->graph->total * real_bytes(engine_real(r->engine));
    float *initial = malloc(r->graph->total * sizeof(*initial));
    assert_non_null(initial);
    graph_init_weights(r->graph, INIT_KAIMING_NORMAL, 3, initial);
    r->arenas = (struct arenas){put(r, NULL, bytes), put(r, NULL, bytes), put(r, NULL, bytes), NULL,
                                put(r, NULL, bytes)};
    OK(engine_from_f32(r->engine, r->arenas.weights, initial, r->graph->total));
    OK(engine_from_f32(r->engine, r->arenas.ema, initial, r->graph->total));
    OK(network_set_weights(r->network, r->arenas.weights));
    free(initial);
}

static void rank_open(struct rank *r, const char *on, int64_t precision)
{
    struct engine_options options = {
        .device = on, .threads = 1, .precision = precision, .deterministic = true};
    struct network_options network = {.max_batch = BATCH, .training = true};
    struct picture_format format = {
        .height = SIZE, .width = SIZE, .mean = {0.5, 0.4, 0.6}, .deviation = {0.3, 0.25, 0.2}};
    *r = (struct rank){.graph = graph_new()};
    OK(engine_open(&r->engine, &options));
    OK(network_create(&r->network, r->engine, r->graph, &network));
    OK(input_create(&r->input, r->engine, &format, BATCH));
    put_data(r);
    put_arenas(r);
}

static void rank_close(struct rank *r)
{
    void *const memory[] = {r->pixels,    r->labels,         r->teacher,        r->scalars,
                            r->sums,      r->arenas.weights, r->arenas.moment1, r->arenas.gradients,
                            r->arenas.ema};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        engine_free(r->engine, memory[i]);
    network_destroy(&r->network);
    input_destroy(&r->input);
    engine_close(&r->engine);
    graph_destroy(&r->graph);
}

// Every fifth batch is a smaller one, as an epoch's last.
static void rank_step(struct rank *r, int step)
{
    const struct optimizer_spec spec = {
        .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true};
    const struct loss_spec loss = {.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3};
    int count = step % 5 == 4 ? 3 : BATCH;
    int64_t ids[BATCH];
    double sums[LOSS_SUMS];
    struct step_scalars now = {.lr = 0.02,
                               .ema_decay = ema_decay_at(0.9, step),
                               .bias1 = 1.0,
                               .bias2 = 1.0,
                               .inverse_batch = 1.0 / count};
    for (int i = 0; i < count; i++)
        ids[i] = (step * BATCH + i) % SAMPLES;
    struct picture_batch batch = {.pixels = r->pixels,
                                  .slot = ids,
                                  .sample_id = ids,
                                  .count = count,
                                  .augment = AUGMENT_CROP_FLIP,
                                  .seed = 1,
                                  .domain = RANDOM_AUGMENT_STUDENT,
                                  .view = (uint32_t)step / 3};
    struct loss_targets targets = {
        .labels = r->labels, .teacher = r->teacher, .sample_id = ids, .count = count};
    OK(engine_upload(r->engine, r->scalars, &now, sizeof(now)));
    OK(engine_zero(r->engine, r->sums, sizeof(sums)));
    OK(input_load(r->input, &batch, NULL));
    OK(network_forward(r->network, r->input, FORWARD_TRAIN));
    OK(network_loss(r->network, &targets, &loss, r->scalars, r->sums));
    OK(network_backward(r->network, r->arenas.gradients, r->scalars, NULL));
    OK(engine_update(r->engine, r->graph, &r->arenas, &spec, r->scalars));
    OK(network_set_weights(r->network, r->arenas.weights));
    if (step % 4 == 3) { // as at a log interval
        OK(engine_download(r->engine, sums, r->sums, sizeof(sums)));
        r->losses[step] = sums[LOSS_TOTAL] * now.inverse_batch;
    }
}

// What a run ends with.
struct outcome {
    float *weights, *ema; // owned, [count]
    double losses[STEPS];
    size_t count;
};

static void run(struct outcome *o, const char *on, int64_t precision)
{
    struct rank r;
    rank_open(&r, on, precision);
    for (int step = 0; step < STEPS; step++)
        rank_step(&r, step);
    *o = (struct outcome){.count = r.graph->total};
    o->weights = malloc(o->count * sizeof(float));
    o->ema = malloc(o->count * sizeof(float));
    assert_true(o->weights && o->ema);
    OK(engine_to_f32(r.engine, o->weights, r.arenas.weights, o->count));
    OK(engine_to_f32(r.engine, o->ema, r.arenas.ema, o->count));
    memcpy(o->losses, r.losses, sizeof(o->losses));
    rank_close(&r);
}

static void outcome_free(struct outcome *o)
{
    free(o->weights);
    free(o->ema);
}

static double apart(const float *a, const float *b, size_t count)
{
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        double x = (double)a[i], y = (double)b[i];
        error += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(error / norm);
}

static void close_to_the_reference(int64_t precision, double limit)
{
    struct outcome ours, theirs;
    run(&ours, device, precision);
    run(&theirs, "reference", PRECISION_F64);
    assert_true(apart(ours.weights, theirs.weights, ours.count) < limit);
    assert_true(apart(ours.ema, theirs.ema, ours.count) < limit);
    assert_true(apart(ours.ema, ours.weights, ours.count) > 10.0 * limit || limit > 1e-3);
    for (int i = 3; i < STEPS; i += 4)
        assert_true(fabs(ours.losses[i] - theirs.losses[i]) < limit * theirs.losses[i]);
    outcome_free(&ours);
    outcome_free(&theirs);
}

static void twenty_steps_are_the_reference_ones(void **state)
{
    (void)state;
    close_to_the_reference(PRECISION_F32, 1e-4);
    close_to_the_reference(PRECISION_BF16, 3e-2);
}

static void same_bits(const struct outcome *a, const struct outcome *b)
{
    assert_memory_equal(a->weights, b->weights, a->count * sizeof(float));
    assert_memory_equal(a->ema, b->ema, a->count * sizeof(float));
    assert_memory_equal(a->losses, b->losses, sizeof(a->losses));
}

static void run_same(const struct outcome *expected, int64_t precision)
{
    struct outcome o;
    run(&o, device, precision);
    same_bits(&o, expected);
    outcome_free(&o);
}

static void graphs_replay_the_same_bits(void **state)
{
    (void)state;
    static const int64_t precisions[] = {PRECISION_F32, PRECISION_BF16};
    for (int i = 0; i < 2; i++) {
        struct outcome plain;
        setenv("RETORT_CUDA_EAGER", "1", 1);
        run(&plain, device, precisions[i]);
        unsetenv("RETORT_CUDA_EAGER");
        run_same(&plain, precisions[i]);
        outcome_free(&plain);
    }
}

#ifdef TEST_SOFTGPU
static void nothing_runs_too_early(void **state)
{
    (void)state;
    struct outcome at_once;
    for (int eager = 0; eager < 2; eager++) {
        if (eager)
            setenv("RETORT_CUDA_EAGER", "1", 1);
        softgpu_set_policy(SOFTGPU_EAGER, 0);
        run(&at_once, device, PRECISION_F32);
        softgpu_set_policy(SOFTGPU_LAZY, 0);
        run_same(&at_once, PRECISION_F32);
        for (uint64_t seed = 1; seed <= (eager ? 2 : SEEDS); seed++) {
            softgpu_set_policy(SOFTGPU_RANDOM, seed);
            run_same(&at_once, PRECISION_F32);
        }
        softgpu_set_policy(SOFTGPU_EAGER, 0);
        outcome_free(&at_once);
    }
    unsetenv("RETORT_CUDA_EAGER");
    assert_int_equal(softgpu_allocated(), 0);
}
#endif

int main(int argc, char **argv)
{
    if (argc > 1)
        device = argv[1];
    if (!bench_has_device(device))
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_are_the_reference_ones),
        cmocka_unit_test(graphs_replay_the_same_bits),
#ifdef TEST_SOFTGPU
        cmocka_unit_test(nothing_runs_too_early),
#endif
    };
    return cmocka_run_group_tests_name("CUDA steps", tests, NULL, NULL);
}
