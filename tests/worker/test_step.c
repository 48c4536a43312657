// The training step on this many ranks against one rank that does all of it, step by step.
//
// Every rank also trains alone, on a communicator of its own. The gradients of single micro-batches
// are computed from the worker's parts and summed here, by the tree as DESIGN writes it and from
// left to right.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "comm/rank_state.h"
#include "tests/worker/pair.h"

enum { MICROBATCHES_MOST = 17, BATCH = 18 };

// ---- gradients of single micro-batches
static size_t arena_bytes(const struct trainer *t)
{
    return t->graph->total * real_bytes(engine_real(t->rank->engine));
}

static void *host_copy(const struct trainer *t, const void *arena, size_t count)
{
    size_t bytes = count * real_bytes(engine_real(t->rank->engine));
    void *copy = malloc(bytes);
    assert_non_null(copy);
    assert_int_equal(engine_download(t->rank->engine, copy, arena, bytes), RETORT_OK);
    return copy;
}

// Micro-batch m's pictures, as the trainer that is alone would load them. Returns how many.
static int load(struct trainer *t, int64_t epoch, int64_t step, int64_t m, struct input *input,
                int64_t sample_id[BATCH])
{
    int64_t first, last, slot[BATCH];
    enum random_domain domain;
    uint32_t view;
    sampler_microbatch(&t->sampler, step, m, &first, &last);
    assert_int_equal(shard_slots(t->rank->train, first, last, sample_id, slot), RETORT_OK);
    stage_view(&t->rank->recipe, t->stage, epoch, &domain, &view);
    struct picture_batch batch = {
        .pixels = shard_pixels(t->rank->train),
        .slot = slot,
        .sample_id = sample_id,
        .count = (int)(last - first),
        .augment = (enum augment_kind)t->rank->recipe.data.augment,
        .seed = (uint64_t)t->rank->recipe.run.seed,
        .domain = domain,
        .view = view,
    };
    assert_int_equal(input_load(input, &batch, NULL), RETORT_OK);
    return batch.count;
}

static void take_loss(struct trainer *t, int64_t step, struct network *network,
                      const int64_t *sample_id, int count)
{
    struct loss_targets targets = {.labels = t->labels, .sample_id = sample_id, .count = count};
    struct step_scalars scalars = {.inverse_batch =
                                       1.0 / (double)sampler_step_size(&t->sampler, step)};
    assert_int_equal(engine_upload(t->rank->engine, t->scalars, &scalars, sizeof scalars),
                     RETORT_OK);
    assert_int_equal(network_loss(network, &targets, &t->loss, t->scalars, t->sums), RETORT_OK);
}

// Each micro-batch for itself.
static void leaves_in_turn(struct trainer *t, int64_t epoch, int64_t step, void **leaves)
{
    struct input *input = t->microbatches.inputs[0];
    for (int64_t m = 0; m < t->sampler.microbatches; m++) {
        int64_t sample_id[BATCH];
        int count = load(t, epoch, step, m, input, sample_id);
        assert_int_equal(network_forward(t->network, input, FORWARD_TRAIN), RETORT_OK);
        take_loss(t, step, t->network, sample_id, count);
        assert_int_equal(network_backward(t->network, t->arenas.gradients, t->scalars, NULL),
                         RETORT_OK);
        leaves[m] = host_copy(t, t->arenas.gradients, t->graph->total);
    }
}

// Side by side, each into an arena of its own.
static void leaves_together(struct trainer *t, int64_t epoch, int64_t step, void **leaves)
{
    struct network_group *group = t->microbatches.group;
    struct input **inputs = t->microbatches.inputs;
    int64_t sample_id[MICROBATCHES_MOST][BATCH], parts = t->sampler.microbatches;
    void *arenas[MICROBATCHES_MOST];
    int count[MICROBATCHES_MOST];
    for (int64_t m = 0; m < parts; m++) {
        count[m] = load(t, epoch, step, m, inputs[m], sample_id[m]);
        arenas[m] = engine_alloc(t->rank->engine, arena_bytes(t));
        assert_non_null(arenas[m]);
    }
    assert_int_equal(network_group_forward(group, (const struct input *const *)inputs), RETORT_OK);
    for (int m = 0; m < parts; m++)
        take_loss(t, step, network_group_member(group, m), sample_id[m], count[m]);
    assert_int_equal(network_group_backward(group, arenas, t->scalars, NULL), RETORT_OK);
    for (int m = 0; m < parts; m++) {
        leaves[m] = host_copy(t, arenas[m], t->graph->total);
        engine_free(t->rank->engine, arenas[m]);
    }
}

// The gradients of all micro-batches of the trainer that is alone, on the host; the caller's to
// free.
static void leaves_of(struct trainer *t, int64_t epoch, int64_t step, void **leaves)
{
    if (t->microbatches.group)
        leaves_together(t, epoch, step, leaves);
    else
        leaves_in_turn(t, epoch, step, leaves);
}

static void add(void *to, const void *from, size_t count, enum real_type real)
{
    for (size_t i = 0; i < count; i++) {
        if (real == REAL_F64)
            ((double *)to)[i] += ((const double *)from)[i];
        else
            ((float *)to)[i] += ((const float *)from)[i];
    }
}

// Sums leaves[a, b) into leaves[a]: [a, b) splits at a + ceil((b - a) / 2).
static void sum_tree(void **leaves, int64_t a, int64_t b, size_t count, enum real_type real)
{
    if (b - a == 1)
        return;
    int64_t middle = a + (b - a) / 2 + (b - a) % 2;
    sum_tree(leaves, a, middle, count, real);
    sum_tree(leaves, middle, b, count, real);
    add(leaves[a], leaves[middle], count, real);
}

static double at(const void *arena, size_t i, enum real_type real)
{
    return real == REAL_F64 ? ((const double *)arena)[i] : (double)((const float *)arena)[i];
}

static double apart(const void *a, const void *b, size_t count, enum real_type real)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += pow(at(a, i, real) - at(b, i, real), 2);
        norm += pow(at(b, i, real), 2);
    }
    return sqrt(difference / norm);
}

// ---- what must agree
static bool is_power_of_two(int n)
{
    return (n & (n - 1)) == 0;
}

// The same bits, or, where the ranks are no power of two, the same to `tolerance`.
static void assert_agree(const char *what, const void *a, const void *b, size_t count,
                         enum real_type real, double tolerance)
{
    if (is_power_of_two(comm_size(pair.all))) {
        if (memcmp(a, b, count * real_bytes(real)) != 0)
            fail_msg("%s: other bits (%.3g apart)", what, apart(a, b, count, real));
    } else if (!(apart(a, b, count, real) <= tolerance)) {
        fail_msg("%s: %.3g apart", what, apart(a, b, count, real));
    }
}

static void assert_arena_agrees(const char *what, struct trainer *a, const void *arena_a,
                                struct trainer *b, const void *arena_b, size_t count)
{
    void *host_a = host_copy(a, arena_a, count), *host_b = host_copy(b, arena_b, count);
    assert_agree(what, host_a, host_b, count, engine_real(a->rank->engine), 1e-5);
    // From here on the two are at one again: each step is compared for itself.
    assert_int_equal(engine_upload(a->rank->engine, (void *)(uintptr_t)arena_a, host_b,
                                   count * real_bytes(engine_real(a->rank->engine))),
                     RETORT_OK);
    free(host_a);
    free(host_b);
}

// The samples of a step, on whichever ranks they are, are those of the run that is alone: their ids
// and their pixels.
static void assert_same_samples(struct trainer *t, struct trainer *alone, int64_t step)
{
    int64_t first_part, last_part, begin, end, unused, id[BATCH], slot[BATCH], id_alone[BATCH],
        slot_alone[BATCH];
    double ids[BATCH] = {0};
    const struct dataset *d = &t->rank->dataset;
    size_t bytes = (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
    int64_t size = sampler_step_size(&t->sampler, step);
    sampler_microbatch(&t->sampler, step, 0, &begin, &unused);
    assert_int_equal(shard_slots(alone->rank->train, begin, begin + size, id_alone, slot_alone),
                     RETORT_OK);
    sampler_own(&t->sampler, &first_part, &last_part);
    sampler_microbatch(&t->sampler, step, first_part, &first_part, &unused);
    sampler_microbatch(&t->sampler, step, last_part - 1, &unused, &end);
    assert_int_equal(shard_slots(t->rank->train, first_part, end, id, slot), RETORT_OK);
    for (int64_t p = first_part; p < end; p++) {
        ids[p - begin] = (double)id[p - first_part];
        assert_memory_equal(
            shard_pixels(t->rank->train) + (size_t)slot[p - first_part] * bytes,
            shard_pixels(alone->rank->train) + (size_t)slot_alone[p - begin] * bytes, bytes);
    }
    assert_int_equal(comm_allreduce_sum(pair.all, ids, BATCH, REAL_F64, true), RETORT_OK);
    for (int64_t i = 0; i < size; i++)
        assert_int_equal((int64_t)ids[i], id_alone[i]);
}

// ---- the update, in double by the closed forms
struct before {
    void *weights, *moment1, *ema; // owned, host
};

static void take_before(struct before *b, const struct trainer *t)
{
    b->weights = host_copy(t, t->arenas.weights, t->graph->total);
    b->moment1 = host_copy(t, t->arenas.moment1, t->graph->trainable);
    b->ema = host_copy(t, t->arenas.ema, t->graph->total);
}

static double expected_lr(int64_t update, int64_t steps)
{
    if (update < steps) // one epoch of warm-up, then one of cosine
        return 0.02 * (double)(update + 1) / (double)steps;
    return 0.01 * (1 + cos(3.14159265358979 * (double)(update - steps) / (double)steps));
}

static void assert_near(const char *what, int64_t update, double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-6 * (1 + fabs(expected))))
        fail_msg("%s of update %lld: %.9g, not %.9g", what, (long long)update, value, expected);
}

// The step that `t` has just made with `gradients`: SGD with Nesterov momentum 0.9 and weight decay
// 0.0005 on weights, running statistics, and the EMA of both.
static void assert_updated(struct trainer *t, const struct before *b, const void *gradients)
{
    enum real_type real = engine_real(t->rank->engine);
    struct before now;
    int64_t update = t->step - 1;
    double lr = expected_lr(update, sampler_steps(&t->sampler));
    double warm = (1.0 + (double)update) / (10.0 + (double)update);
    double decay = fmin(t->recipe->ema.decay, warm);
    take_before(&now, t);
    for (int p = 0; p < t->graph->param_count; p++) {
        const struct param *param = &t->graph->params[p];
        for (size_t i = param->offset; i < param->offset + param->count; i++) {
            double w = at(b->weights, i, real), g = at(gradients, i, real), w_now;
            if (i < t->graph->trainable) {
                g += param->decay ? 0.0005 * w : 0;
                double m = 0.9 * at(b->moment1, i, real) + g;
                assert_near("moment", update, at(now.moment1, i, real), m);
                w_now = w - lr * (g + 0.9 * m);
            } else {
                w_now = 0.9 * w + 0.1 * g;
            }
            assert_near(param->name, update, at(now.weights, i, real), w_now);
            assert_near("EMA", update, at(now.ema, i, real),
                        w_now + decay * (at(b->ema, i, real) - w_now));
        }
    }
    free(now.weights);
    free(now.moment1);
    free(now.ema);
}

// ---- one step, both ways
// Returns whether the sum from left to right has other bits than the tree's.
static bool step_agrees(struct trainer *t, struct trainer *alone, int64_t epoch, int64_t step)
{
    void *leaves[MICROBATCHES_MOST];
    int64_t parts = t->sampler.microbatches;
    size_t count = t->graph->total;
    enum real_type real = engine_real(t->rank->engine);
    assert_same_samples(t, alone, step);
    leaves_of(alone, epoch, step, leaves);
    void *in_order = malloc(arena_bytes(t));
    memcpy(in_order, leaves[0], arena_bytes(t));
    for (int64_t m = 1; m < parts; m++)
        add(in_order, leaves[m], count, real);
    sum_tree(leaves, 0, parts, count, real);
    bool differs = memcmp(in_order, leaves[0], arena_bytes(t)) != 0;
    assert_true(apart(in_order, leaves[0], count, real) < 1e-5);

    struct before before;
    take_before(&before, alone);
    assert_int_equal(trainer_step(t, epoch, step), RETORT_OK);
    assert_int_equal(trainer_step(alone, epoch, step), RETORT_OK);
    assert_updated(alone, &before, leaves[0]);
    void *sum = host_copy(t, t->arenas.gradients, count);
    assert_agree("gradients", sum, leaves[0], count, real, 1e-5);
    assert_arena_agrees("weights", t, t->arenas.weights, alone, alone->arenas.weights, count);
    assert_arena_agrees("EMA", t, t->arenas.ema, alone, alone->arenas.ema, count);
    assert_arena_agrees("moments", t, t->arenas.moment1, alone, alone->arenas.moment1,
                        t->graph->trainable);
    assert_int_equal(network_set_weights(t->network, t->arenas.weights), RETORT_OK);
    free(before.weights);
    free(before.moment1);
    free(before.ema);
    free(sum);
    free(in_order);
    for (int64_t m = 0; m < parts; m++)
        free(leaves[m]);
    return differs;
}

// Samples move between ranks between epochs, as in a run.
static void epochs_agree(enum stage stage, int64_t norm, int64_t microbatches, int64_t epochs)
{
    struct trainer *t, *alone;
    struct rank *ranks[] = {&pair.together, &pair.alone};
    for (int i = 0; i < 2; i++) {
        ranks[i]->recipe.run.microbatches = microbatches;
        ranks[i]->recipe.teacher.norm = ranks[i]->recipe.student.norm = norm;
    }
    assert_int_equal(trainer_create(&t, &pair.together, stage, NULL), RETORT_OK);
    assert_int_equal(trainer_create(&alone, &pair.alone, stage, NULL), RETORT_OK);
    int64_t steps = sampler_steps(&t->sampler), differing = 0;
    assert_int_equal(steps, 9);
    assert_int_equal(sampler_step_size(&t->sampler, steps - 1), 16);
    for (int64_t epoch = 0; epoch < epochs; epoch++) {
        assert_int_equal(shard_begin_epoch(t->rank->train, &t->sampler, epoch), RETORT_OK);
        assert_int_equal(shard_begin_epoch(alone->rank->train, &alone->sampler, epoch), RETORT_OK);
        if (epoch + 1 < epochs)
            assert_int_equal(shard_prefetch(t->rank->train, &t->sampler, epoch + 1), RETORT_OK);
        for (int64_t step = 0; step < steps; step++) {
            differing += step_agrees(t, alone, epoch, step);
            assert_int_equal(shard_progress(t->rank->train), RETORT_OK);
        }
    }
    assert_int_equal(differing, epochs * steps);
    trainer_destroy(&t);
    trainer_destroy(&alone);
}

// What the watchdog would say: the last collectives of a step are backward's sums of statistics.
static void assert_statistics_are_named(void)
{
    char folder[PATH_CAPACITY];
    struct rank_state s;
    int named = 0;
    assert_int_equal(path_join(folder, pair.together.folder, "ranks"), RETORT_OK);
    assert_int_equal(state_read(&s, folder, comm_rank(pair.all)), RETORT_OK);
    for (int i = 0; i < STATE_RECORDS; i++)
        named += strcmp(s.records[i].name, "statistics all-reduce") == 0;
    assert_int_equal(named, STATE_RECORDS - 1);
    assert_string_equal(state_latest(&s)->name, "all-reduce");
}

static void four_microbatches(void **state)
{
    (void)state;
    epochs_agree(STAGE_TEACHER, NORM_BATCH, 4, 2);
}

// A tree that is not balanced; one part of the last batch of 16 is empty.
static void seventeen_microbatches(void **state)
{
    (void)state;
    epochs_agree(STAGE_BASELINE, NORM_BATCH, 17, 2);
}

// Side by side, with statistics of the whole batch.
static void four_synced_microbatches(void **state)
{
    (void)state;
    epochs_agree(STAGE_TEACHER, NORM_BATCH_SYNC, 4, 1);
    assert_statistics_are_named();
}

static void seventeen_synced_microbatches(void **state)
{
    (void)state;
    epochs_agree(STAGE_BASELINE, NORM_BATCH_SYNC, 17, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_microbatches),
        cmocka_unit_test(seventeen_microbatches),
        cmocka_unit_test(four_synced_microbatches),
        cmocka_unit_test(seventeen_synced_microbatches),
    };
    return pair_run_tests(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
