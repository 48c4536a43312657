// Twenty training steps as a rank makes them: augmentation, forward, distillation, backward,
// momentum, EMA. Against the reference engine, and bit for bit whenever queued work runs: at once,
// as late as it may, or by any seed; plainly, in pieces that are replayed from CUDA graphs, or with
// the whole step as one graph, while everything changes that may: samples, pictures and logits that
// lie now here, now there, view, learning rate.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith/optimizer.h"
#include "base/error.h"
#include "models/graph_build.h"
#include "tests/cuda/plan_text.h"
#include "tests/models/support.h"
#ifdef TEST_SOFTGPU
#include <cuda_runtime_api.h>

#include "tests/softgpu/softgpu.h"
#endif

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { STEPS = 20, SAMPLES = 12, BATCH = 5, SIZE = 8, CLASSES = 5, SEEDS = 20 };
enum { PIXELS = SIZE * SIZE * 3, EPOCH = 5 };

enum way { PLAIN, PIECES, WHOLE };

static const char *device = "softgpu";
// BatchNorm's sums come with the products beside it, or apart.
static bool sums_together = true;

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
    uint8_t *pixels[2]; // of even epochs; of odd ones: in the host's memory
    int32_t *labels;
    uint16_t *teacher[2];
    struct step_scalars *scalars;
    double *sums;
    double losses[STEPS];
    struct staged_batch *staged; // of whole steps
    struct recorded *recorded;
    int calls; // of what a step queues
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
    static uint8_t pixels[2][SAMPLES * PIXELS];
    int32_t labels[SAMPLES];
    uint16_t teacher[2][SAMPLES * CLASSES];
    for (int k = 0; k < 2; k++) {
        for (uint64_t i = 0; i < sizeof(pixels[k]); i++)
            pixels[k][i] = (uint8_t)(128.0 + 127.0 * test_uniform((uint64_t)k + 1, i));
        for (int i = 0; i < SAMPLES * CLASSES; i++)
            teacher[k][i] = (uint16_t)(0x3c00 + (k + i) * 397 % 1800); // 1 to 6
        r->teacher[k] = put(r, teacher[k], sizeof(teacher[k]));
    }
    for (int i = 0; i < SAMPLES; i++)
        labels[i] = i % CLASSES;
    r->pixels[0] = put(r, pixels[0], sizeof(pixels[0]));
    r->pixels[1] = pixels[1];
    r->labels = put(r, labels, sizeof(labels));
    r->scalars = put(r, NULL, sizeof(*r->scalars));
    r->sums = put(r, NULL, LOSS_SUMS * sizeof(double));
}

static void put_arenas(struct rank *r)
{
    size_t bytes = r->graph->total * real_bytes(engine_real(r->engine));
    float *initial = malloc(r->graph->total * sizeof(*initial));
    assert_non_null(initial);
    graph_init_weights(r->graph, INIT_KAIMING_NORMAL, 3, initial);
    r->arenas = (struct arenas){put(r, NULL, bytes), put(r, NULL, bytes),
                                put(r, NULL, bytes), NULL,
                                put(r, NULL, bytes), 0,
                                r->graph->total,     NULL};
    OK(engine_from_f32(r->engine, r->arenas.weights, initial, r->graph->total));
    OK(engine_from_f32(r->engine, r->arenas.ema, initial, r->graph->total));
    OK(network_set_weights(r->network, r->arenas.weights));
    free(initial);
}

// Doubled after every third step that was good.
static void put_scale(struct rank *r, float first)
{
    const struct loss_scale scale = {.scale = first, .growth_steps = 3};
    engine_free(r->engine, r->arenas.scale);
    r->arenas.scale = put(r, &scale, sizeof(scale));
}

static void network_open(struct rank *r, const char *on)
{
    char *plan = strcmp(on, device) == 0 ? plan_text(r->graph, sums_together) : NULL;
    const struct network_options options = {.max_batch = BATCH, .training = true, .plan = plan};
    OK(network_create(&r->network, r->engine, r->graph, &options));
    free(plan);
}

static void rank_open(struct rank *r, const char *on, int64_t precision, enum way way)
{
    struct engine_options options = {
        .device = on, .threads = 1, .precision = precision, .deterministic = true};
    struct picture_format format = {
        .height = SIZE, .width = SIZE, .mean = {0.5, 0.4, 0.6}, .deviation = {0.3, 0.25, 0.2}};
    *r = (struct rank){.graph = graph_new()};
    OK(engine_open(&r->engine, &options));
    network_open(r, on);
    OK(input_create(&r->input, r->engine, &format, BATCH));
    if (way == WHOLE)
        OK(staged_batch_create(&r->staged, r->engine, &format, BATCH));
    put_data(r);
    put_arenas(r);
    if (precision == PRECISION_FP16)
        put_scale(r, 1024.0F);
}

static void rank_close(struct rank *r)
{
    void *const memory[] = {r->pixels[0],      r->labels,         r->teacher[0],
                            r->teacher[1],     r->scalars,        r->sums,
                            r->arenas.weights, r->arenas.moment1, r->arenas.gradients,
                            r->arenas.ema,     r->arenas.scale};
    recorded_destroy(&r->recorded);
    staged_batch_destroy(&r->staged);
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        engine_free(r->engine, memory[i]);
    network_destroy(&r->network);
    input_destroy(&r->input);
    engine_close(&r->engine);
    graph_destroy(&r->graph);
}

struct step {
    struct rank *rank;
    struct picture_batch batch;
    struct loss_targets targets;
};

static int queue_step(void *context)
{
    const struct optimizer_spec spec = {
        .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true};
    const struct step *s = context;
    struct rank *r = s->rank;
    const struct loss_spec loss = {
        .kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.3, .scale = r->arenas.scale};
    int rc = RETORT_OK;
    r->calls++;
    TRY(engine_zero(r->engine, r->sums, LOSS_SUMS * sizeof(double)));
    TRY(input_load(r->input, &s->batch, NULL));
    TRY(network_forward(r->network, r->input, FORWARD_TRAIN));
    TRY(network_loss(r->network, &s->targets, &loss, r->scalars, r->sums));
    TRY(network_backward(r->network, r->arenas.gradients, r->scalars, NULL));
    TRY(engine_update(r->engine, r->graph, &r->arenas, &spec, r->scalars));
    TRY(network_set_weights(r->network, r->arenas.weights));
fail:
    return rc;
}

// An epoch's last batch is a smaller one.
static void rank_step(struct rank *r, int step, enum way way)
{
    int count = step % EPOCH == EPOCH - 1 ? 3 : BATCH, half = step / EPOCH % 2;
    const struct record_key key = {{(uint64_t)count}};
    int64_t ids[BATCH];
    double sums[LOSS_SUMS];
    struct step_scalars now = {.lr = 0.02 - 0.0005 * step,
                               .ema_decay = ema_decay_at(0.9, step),
                               .bias1 = 1.0,
                               .bias2 = 1.0,
                               .inverse_batch = 1.0 / count};
    for (int i = 0; i < count; i++)
        ids[i] = (step * BATCH + i) % SAMPLES;
    struct step s = {
        .rank = r,
        .batch = {.pixels = r->pixels[half],
                  .slot = ids,
                  .sample_id = ids,
                  .count = count,
                  .augment = AUGMENT_CROP_FLIP,
                  .seed = 1,
                  .domain = RANDOM_AUGMENT_STUDENT,
                  .view = (uint32_t)step / 3},
        .targets = {
            .labels = r->labels, .teacher = r->teacher[half], .sample_id = ids, .count = count}};
    OK(engine_upload(r->engine, r->scalars, &now, sizeof(now)));
    OK(staged_batch_put(r->staged, &s.batch, s.targets.teacher));
    s.batch.staged = s.targets.staged = r->staged;
    const struct record_work work = {.queue = queue_step, .context = &s};
    if (way == WHOLE)
        OK(engine_record(r->engine, &r->recorded, &key, &work));
    else
        OK(queue_step(&s));
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
    int calls;
};

static void run(struct outcome *o, const char *on, int64_t precision, enum way way)
{
    struct rank r;
    if (way == PLAIN)
        setenv("RETORT_CUDA_EAGER", "1", 1);
    rank_open(&r, on, precision, way);
    unsetenv("RETORT_CUDA_EAGER");
    for (int step = 0; step < STEPS; step++)
        rank_step(&r, step, way);
    *o = (struct outcome){.count = r.graph->total, .calls = r.calls};
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
    run(&ours, device, precision, WHOLE);
    run(&theirs, "reference", PRECISION_F64, WHOLE);
    assert_int_equal(theirs.calls, STEPS);
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
    for (int together = 0; together < 2; together++) {
        sums_together = together != 0;
        close_to_the_reference(PRECISION_F32, 1e-4);
        close_to_the_reference(PRECISION_BF16, 3e-2);
        close_to_the_reference(PRECISION_FP16, 1e-2);
    }
}

static void same_bits(const struct outcome *a, const struct outcome *b)
{
    assert_memory_equal(a->weights, b->weights, a->count * sizeof(float));
    assert_memory_equal(a->ema, b->ema, a->count * sizeof(float));
    assert_memory_equal(a->losses, b->losses, sizeof(a->losses));
}

// Whole steps are called twice a size of batch, plainly and to be captured.
static void run_same(const struct outcome *expected, int64_t precision, enum way way)
{
    struct outcome o;
    run(&o, device, precision, way);
    same_bits(&o, expected);
    assert_int_equal(o.calls, way == WHOLE ? 2 * 2 : STEPS);
    outcome_free(&o);
}

static void graphs_replay_the_same_bits(void **state)
{
    (void)state;
    static const int64_t precisions[] = {PRECISION_F32, PRECISION_BF16, PRECISION_FP16};
    for (int i = 0; i < 3; i++) {
        struct outcome plain;
        run(&plain, device, precisions[i], PLAIN);
        run_same(&plain, precisions[i], PIECES);
        run_same(&plain, precisions[i], WHOLE);
        outcome_free(&plain);
    }
}

// ---- recorded work for itself

struct sum {
    struct engine *engine;
    float *to, *from;
    int calls, asked;
    bool captured, everywhere; // what was told when asked last, and what is answered
};

static int add_once(void *context)
{
    struct sum *s = context;
    s->calls++;
    return engine_add(s->engine, s->to, s->from, 1, REAL_F32);
}

static bool answer(void *context, bool captured)
{
    struct sum *s = context;
    s->asked++;
    s->captured = captured;
    return s->everywhere;
}

static void record_rounds(struct sum *s, struct recorded **r, int keys, int rounds)
{
    const struct record_work work = {add_once, answer, s};
    for (int i = 0; i < rounds; i++)
        for (int k = 0; k < keys; k++) {
            const struct record_key key = {{0, 0, 0, 0, 0, (uint64_t)k}};
            OK(engine_record(s->engine, r, &key, &work));
        }
}

static void sum_open(struct sum *s)
{
    const struct engine_options options = {
        .device = device, .threads = 1, .precision = PRECISION_F32};
    const float one = 1;
    *s = (struct sum){.everywhere = true};
    OK(engine_open(&s->engine, &options));
    s->to = engine_alloc(s->engine, sizeof(one));
    s->from = engine_alloc(s->engine, sizeof(one));
    assert_true(s->to && s->from);
    OK(engine_upload(s->engine, s->from, &one, sizeof(one)));
    OK(engine_synchronize(s->engine)); // before `one` is gone
}

static int sum_close(struct sum *s)
{
    float sum;
    OK(engine_download(s->engine, &sum, s->to, sizeof(sum)));
    engine_free(s->engine, s->to);
    engine_free(s->engine, s->from);
    engine_close(&s->engine);
    return (int)sum;
}

// Eight keys are kept apart; work that has more is called.
static void a_few_keys_are_replayed(void **state)
{
    (void)state;
    struct recorded *recorded = NULL;
    struct sum s;
    sum_open(&s);
    record_rounds(&s, &recorded, 8, 4);
    assert_int_equal(s.calls, 2 * 8);
    assert_int_equal(s.asked, 8); // once a key
    record_rounds(&s, &recorded, 9, 2);
    assert_int_equal(s.calls, 2 * 8 + 1 + 9);
    recorded_destroy(&recorded);
    assert_int_equal(sum_close(&s), 4 * 8 + 2 * 9);
}

// What another rank could not capture is replayed by none, of this key and of others; what none
// could neither.
static void all_ranks_replay_or_none(void **state)
{
    (void)state;
    for (int failed = 0; failed < 2; failed++) {
        struct recorded *recorded = NULL;
        struct sum s;
        sum_open(&s);
        record_rounds(&s, &recorded, 1, 3);
        assert_int_equal(s.calls, 2);
#ifdef TEST_SOFTGPU
        if (failed)
            softgpu_inject("cudaGraphInstantiate", 1, cudaErrorMemoryAllocation);
#endif
        s.everywhere = false;
        record_rounds(&s, &recorded, 2, 3); // of the second key one call is the capture's
        assert_int_equal(s.asked, 2);
        assert_int_equal(s.captured, !failed);
        assert_int_equal(s.calls, 2 + 1 + 2 + 1 + 1);
        recorded_destroy(&recorded);
        assert_int_equal(sum_close(&s), 3 + 2 * 3);
#ifndef TEST_SOFTGPU
        break;
#endif
    }
}

// All of the arenas that an update writes.
static void take_arenas(struct rank *r, float *out)
{
    void *const arenas[] = {r->arenas.weights, r->arenas.moment1, r->arenas.ema};
    for (size_t i = 0; i < 3; i++)
        OK(engine_to_f32(r->engine, out + i * r->graph->total, arenas[i], r->graph->total));
}

// A loss scale that is too large for f16 comes down, without a mark on what is trained; then it
// goes up again.
static void overflow_skips_the_update(void **state)
{
    (void)state;
    struct rank r;
    struct loss_scale before, after;
    int grown = 0;
    rank_open(&r, device, PRECISION_FP16, WHOLE);
    put_scale(&r, 0x1p22F);
    size_t bytes = 3 * r.graph->total * sizeof(float);
    float *was = malloc(bytes), *is = malloc(bytes);
    assert_true(was && is);
    for (int step = 0; step < STEPS; step++) {
        OK(engine_download(r.engine, &before, r.arenas.scale, sizeof(before)));
        take_arenas(&r, was);
        rank_step(&r, step, WHOLE);
        take_arenas(&r, is);
        OK(engine_download(r.engine, &after, r.arenas.scale, sizeof(after)));
        bool skipped = after.skipped > before.skipped;
        grown += after.scale > before.scale;
        assert_int_equal(memcmp(was, is, bytes) == 0, skipped);
        assert_true(after.scale == before.scale * (skipped                  ? 0.5F
                                                   : before.good_steps == 2 ? 2.0F
                                                                            : 1.0F));
    }
    assert_in_range(after.skipped, 3, STEPS - 6);
    assert_true(grown > 0);
    for (size_t i = 0; i < 3 * r.graph->total; i++)
        assert_true(isfinite(is[i]));
    free(was);
    free(is);
    rank_close(&r);
}

#ifdef TEST_SOFTGPU
static void nothing_runs_too_early(void **state)
{
    (void)state;
    static const uint64_t seeds[] = {[PLAIN] = 2, [PIECES] = 4, [WHOLE] = SEEDS};
    struct outcome at_once;
    run(&at_once, device, PRECISION_F32, PLAIN);
    for (enum way way = PLAIN; way <= WHOLE; way++) {
        softgpu_set_policy(SOFTGPU_LAZY, 0);
        run_same(&at_once, PRECISION_F32, way);
        for (uint64_t seed = 1; seed <= seeds[way]; seed++) {
            softgpu_set_policy(SOFTGPU_RANDOM, seed);
            run_same(&at_once, PRECISION_F32, way);
        }
        softgpu_set_policy(SOFTGPU_EAGER, 0);
    }
    outcome_free(&at_once);
    assert_int_equal(softgpu_allocated(), 0);
}

// The step is not captured: it goes on in pieces, which are.
static void a_refused_capture_changes_no_bit(void **state)
{
    (void)state;
    struct outcome plain, pieces;
    run(&plain, device, PRECISION_F32, PLAIN);
    softgpu_inject("cudaGraphInstantiate", 1, cudaErrorMemoryAllocation);
    run(&pieces, device, PRECISION_F32, WHOLE);
    same_bits(&pieces, &plain);
    assert_int_equal(pieces.calls, STEPS + 1); // once in vain
    outcome_free(&plain);
    outcome_free(&pieces);
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
        cmocka_unit_test(a_few_keys_are_replayed),
        cmocka_unit_test(all_ranks_replay_or_none),
        cmocka_unit_test(overflow_skips_the_update),
#ifdef TEST_SOFTGPU
        cmocka_unit_test(nothing_runs_too_early),
        cmocka_unit_test(a_refused_capture_changes_no_bit),
#endif
    };
    return cmocka_run_group_tests_name("CUDA steps", tests, NULL, NULL);
}
