// Twenty steps on this many ranks beside twenty on one: the same bits where the ranks are a power
// of two, else the same to rounding; and batch_sync is a BatchNorm whose only micro-batch is the
// batch.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/worker/pair.h"

enum { STEPS = 20, EPOCHS = 3 };

struct history {
    double losses[STEPS]; // of the whole batch
    size_t total;
    double *gradients; // owned; of the first step, without the statistics
    double *weights;   // owned; after the last
    size_t trainable;
};

static double *copy_arena(const struct trainer *t, const void *arena, size_t count)
{
    struct engine *e = t->rank->engine;
    bool wide = engine_real(e) == REAL_F64;
    double *copy = malloc(count * sizeof *copy);
    float *narrow = malloc(count * sizeof *narrow);
    assert_non_null(copy);
    assert_non_null(narrow);
    assert_int_equal(
        engine_download(e, wide ? (void *)copy : narrow, arena, count * real_bytes(engine_real(e))),
        RETORT_OK);
    for (size_t i = 0; i < count && !wide; i++)
        copy[i] = (double)narrow[i];
    free(narrow);
    return copy;
}

static double step_loss(struct trainer *t, int64_t epoch, int64_t step)
{
    double before = t->epoch.sums[LOSS_TOTAL];
    assert_int_equal(trainer_step(t, epoch, step), RETORT_OK);
    double loss = t->epoch.sums[LOSS_TOTAL] - before;
    assert_int_equal(comm_allreduce_sum(t->rank->comm, &loss, 1, REAL_F64, true), RETORT_OK);
    return loss / (double)sampler_step_size(&t->sampler, step);
}

static void train(struct history *h, struct rank *rank, int64_t norm, int64_t microbatches)
{
    struct trainer *t;
    rank->recipe.student.norm = norm;
    rank->recipe.student.epochs = EPOCHS;
    rank->recipe.run.microbatches = microbatches;
    assert_int_equal(trainer_create(&t, rank, STAGE_BASELINE, NULL), RETORT_OK);
    int64_t steps = sampler_steps(&t->sampler);
    assert_int_equal(steps, 9);
    assert_int_equal(sampler_step_size(&t->sampler, steps - 1), 16); // two less than the others
    h->trainable = t->graph->trainable;
    h->total = t->graph->total;
    for (int64_t i = 0; i < STEPS; i++) {
        int64_t epoch = i / steps, step = i % steps;
        if (step == 0)
            assert_int_equal(shard_begin_epoch(rank->train, &t->sampler, epoch), RETORT_OK);
        h->losses[i] = step_loss(t, epoch, step);
        if (i == 0)
            h->gradients = copy_arena(t, t->arenas.gradients, h->trainable);
    }
    h->weights = copy_arena(t, t->arenas.weights, h->total);
    trainer_destroy(&t);
}

static void history_free(struct history *h)
{
    free(h->gradients);
    free(h->weights);
}

// ||a - b|| / ||b||
static double apart(const double *a, const double *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference / norm);
}

static double losses_apart(const struct history *a, const struct history *b)
{
    double most = 0;
    for (int i = 0; i < STEPS; i++)
        most = fmax(most, fabs(a->losses[i] - b->losses[i]) / b->losses[i]);
    return most;
}

static void assert_close(const char *what, const struct history *a, const struct history *b,
                         double f32_limit)
{
    bool wide = engine_real(pair.alone.engine) == REAL_F64;
    double gradients = apart(a->gradients, b->gradients, a->trainable);
    double losses = losses_apart(a, b);
    if (comm_rank(pair.all) == 0)
        print_message("%s: first gradients %.2g apart, %d losses %.2g, last weights %.2g\n", what,
                      gradients, (int)STEPS, losses, apart(a->weights, b->weights, a->total));
    assert_true(gradients <= (wide ? 1e-11 : 1e-5));
    assert_true(losses <= (wide ? 1e-9 : f32_limit));
    assert_true(b->losses[STEPS - 1] < b->losses[0]); // it learns: weights have moved
}

static void assert_same(const char *what, const struct history *together,
                        const struct history *alone, double f32_limit)
{
    int ranks = comm_size(pair.all);
    assert_int_equal(together->total, alone->total);
    assert_close(what, together, alone, f32_limit);
    if ((ranks & (ranks - 1)) != 0)
        return;
    assert_memory_equal(together->gradients, alone->gradients,
                        alone->trainable * sizeof *alone->gradients);
    assert_memory_equal(together->weights, alone->weights, alone->total * sizeof *alone->weights);
    assert_true(losses_apart(together, alone) < 1e-14); // sums of f64, in another order
}

static void batch_norm_is_the_same_on_all_ranks(void **state)
{
    (void)state;
    struct history together, alone;
    train(&together, &pair.together, NORM_BATCH, 4);
    train(&alone, &pair.alone, NORM_BATCH, 4);
    // Over four samples a BatchNorm makes much of rounding, once a ReLU opens in one run only.
    assert_same("batch", &together, &alone, 5e-3);
    history_free(&together);
    history_free(&alone);
}

// Five parts: of 18 samples 4 4 4 3 3, of the last 16 4 3 3 3 3.
static void batch_sync_is_the_same_on_all_ranks(void **state)
{
    (void)state;
    struct history together, alone, one;
    train(&together, &pair.together, NORM_BATCH_SYNC, 5);
    train(&alone, &pair.alone, NORM_BATCH_SYNC, 5);
    train(&one, &pair.alone, NORM_BATCH, 1);
    assert_same("batch_sync", &together, &alone, 1e-3);
    // Other kernels, so that here and there a ReLU opens in one run only.
    assert_close("batch_sync in 5 parts, batch in one", &together, &one, 5e-3);
    history_free(&together);
    history_free(&alone);
    history_free(&one);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_norm_is_the_same_on_all_ranks),
        cmocka_unit_test(batch_sync_is_the_same_on_all_ranks),
    };
    return pair_run_tests(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
