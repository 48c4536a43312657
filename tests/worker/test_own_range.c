// The sharded optimizer (optimizer.shard) against the one that every rank has whole: the same bits
// step by step, in the files, and after a resume from either's checkpoint.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/worker/pair.h"
#include "worker/evaluate.h"
#include "worker/own_range.h"
#include "worker/saving.h"

enum { STEPS = 9, ARENAS = 4 };

struct whole_state { // owned, host; NULL where there is no such arena
    void *arenas[ARENAS];
};
static const char *const NAMES[ARENAS] = {"weights", "moment 1", "moment 2", "average"};

static size_t count_of(const struct trainer *t, int arena)
{
    return arena == 1 || arena == 2 ? t->graph->trainable : t->graph->total;
}

static size_t bytes_of(const struct trainer *t, int arena)
{
    return count_of(t, arena) * real_bytes(engine_real(t->rank->engine));
}

// Collective.
static struct whole_state take_state(struct trainer *t)
{
    const void *own[ARENAS] = {t->arenas.weights, t->arenas.moment1, t->arenas.moment2,
                               t->arenas.ema};
    struct whole_state s = {{NULL}};
    for (int a = 0; a < ARENAS; a++) {
        const void *whole = own[a];
        if (!own[a])
            continue;
        if (a > 0)
            assert_int_equal(own_range_gather(t, &whole, own[a], count_of(t, a)), RETORT_OK);
        s.arenas[a] = malloc(bytes_of(t, a));
        assert_int_equal(engine_download(t->rank->engine, s.arenas[a], whole, bytes_of(t, a)),
                         RETORT_OK);
    }
    return s;
}

static void free_state(struct whole_state *s)
{
    for (int a = 0; a < ARENAS; a++)
        free(s->arenas[a]);
}

static void assert_same_arenas(const struct trainer *t, void *const *a, void *const *b)
{
    for (int i = 0; i < ARENAS; i++) {
        assert_int_equal(a[i] == NULL, b[i] == NULL);
        if (a[i] && memcmp(a[i], b[i], bytes_of(t, i)) != 0)
            fail_msg("other bits in %s after step %lld", NAMES[i], (long long)t->step);
    }
}

static void assert_same_state(struct trainer *a, struct trainer *b)
{
    struct whole_state of_a = take_state(a), of_b = take_state(b);
    assert_int_equal(a->step, b->step);
    assert_same_arenas(a, of_a.arenas, of_b.arenas);
    free_state(&of_a);
    free_state(&of_b);
}

static struct trainer *create(bool sharded)
{
    struct trainer *t;
    pair.together.recipe.teacher.optimizer.shard = sharded;
    assert_int_equal(trainer_create(&t, &pair.together, STAGE_TEACHER, NULL), RETORT_OK);
    return t;
}

static void begin_epoch(const struct trainer *t)
{
    assert_int_equal(shard_begin_epoch(t->rank->train, &t->sampler, 0), RETORT_OK);
    assert_int_equal(sampler_steps(&t->sampler), STEPS);
}

static void step_both(struct trainer *a, struct trainer *b, int64_t step)
{
    assert_int_equal(trainer_step(a, 0, step), RETORT_OK);
    assert_int_equal(trainer_step(b, 0, step), RETORT_OK);
}

// Moments and average are where only its own rank has them, and no rank has much more than its
// share; ranks past the largest power of two have none.
static void assert_is_sharded(const struct trainer *t)
{
    const int size = comm_size(pair.all), fair = size == 3 ? 2 : size;
    const size_t total = t->graph->total, own = own_range_of(t, total).count;
    assert_int_equal(t->sharded, size > 1);
    assert_in_range(own, 0, total / (size_t)fair + 16);
    if (comm_rank(pair.all) < fair)
        assert_true(own + 16 >= total / (size_t)fair);
}

static void assert_same_evaluation(struct trainer *whole, struct trainer *own)
{
    struct trainer *both[] = {whole, own};
    struct evaluation e[2];
    for (int i = 0; i < 2; i++) {
        struct trainer *t = both[i];
        const void *average;
        assert_int_equal(own_range_gather(t, &average, t->arenas.ema, t->graph->total), RETORT_OK);
        assert_int_equal(
            evaluate(&e[i], t->rank, t->rank->val, t->evaluator, t->eval_input, average, NULL),
            RETORT_OK);
    }
    assert_true(isfinite(e[0].loss) && e[0].loss == e[1].loss);
    assert_int_equal(e[0].top1_count, e[1].top1_count);
}

static void every_step_has_the_same_bits(int64_t kind)
{
    pair.together.recipe.teacher.optimizer.kind = kind;
    struct trainer *whole = create(false), *own = create(true);
    assert_is_sharded(own);
    assert_same_state(whole, own);
    begin_epoch(whole);
    for (int64_t step = 0; step < STEPS; step++) {
        step_both(whole, own, step);
        assert_same_state(whole, own);
    }
    assert_same_evaluation(whole, own);
    trainer_destroy(&whole);
    trainer_destroy(&own);
}

static void sgd_has_the_same_bits(void **state)
{
    (void)state;
    every_step_has_the_same_bits(OPTIMIZER_SGD);
}

static void adamw_has_the_same_bits(void **state)
{
    (void)state;
    every_step_has_the_same_bits(OPTIMIZER_ADAMW);
}

static void save(struct trainer *t)
{
    struct progress_state s = {.epoch_step = t->step, .best_step = -1, .results = json_object()};
    assert_int_equal(trainer_save(t, &s, false), RETORT_OK);
    progress_state_free(&s);
}

static void resume(struct trainer *t, int64_t step)
{
    struct progress_state s = {.results = json_object()};
    bool found = false;
    assert_int_equal(trainer_resume(t, &s, &found), RETORT_OK);
    assert_true(found);
    assert_int_equal(t->step, step);
    progress_state_free(&s);
}

// The newest checkpoint holds all of what `t` holds.
static void assert_saved(struct trainer *t)
{
    char folder[PATH_CAPACITY];
    struct checkpoint c = {0};
    int64_t step;
    struct whole_state s = take_state(t);
    assert_int_equal(stage_folder(folder, t->rank, t->stage), RETORT_OK);
    assert_int_equal(checkpoint_read_newest(&c, folder, &step), RETORT_OK);
    assert_int_equal(step, t->step);
    assert_same_arenas(t, s.arenas, (void *[ARENAS]){c.weights, c.moment1, c.moment2, c.ema});
    checkpoint_free(&c);
    free_state(&s);
}

// Saved sharded, resumed whole, saved whole, resumed sharded: as if nothing had happened.
static void checkpoints_are_each_others(void **state)
{
    (void)state;
    pair.together.recipe.teacher.optimizer.kind = OPTIMIZER_ADAMW;
    struct trainer *straight = create(false), *own = create(true);
    begin_epoch(straight);
    for (int64_t step = 0; step < 3; step++)
        step_both(straight, own, step);
    save(own);
    assert_saved(straight);
    struct trainer *whole = create(false);
    resume(whole, 3);
    assert_same_state(straight, whole);
    for (int64_t step = 3; step < 6; step++)
        step_both(straight, whole, step);
    save(whole);
    trainer_destroy(&own);
    own = create(true);
    resume(own, 6);
    assert_same_state(straight, own);
    for (int64_t step = 6; step < STEPS; step++)
        step_both(straight, own, step);
    assert_same_state(straight, own);
    trainer_destroy(&straight);
    trainer_destroy(&whole);
    trainer_destroy(&own);
}

// By MPI's own sums, whose order is not ours: to rounding.
static void fast_sums_agree(void **state)
{
    (void)state;
    pair.together.recipe.teacher.optimizer.kind = OPTIMIZER_SGD;
    pair.together.recipe.run.deterministic = false;
    struct trainer *whole = create(false), *own = create(true);
    begin_epoch(whole);
    step_both(whole, own, 0);
    struct whole_state a = take_state(whole), b = take_state(own);
    const bool wide = engine_real(whole->rank->engine) == REAL_F64;
    for (int i = 0; i < ARENAS; i++)
        for (size_t k = 0; a.arenas[i] && k < count_of(whole, i); k++) {
            const double x = wide ? ((double *)a.arenas[i])[k] : (double)((float *)a.arenas[i])[k];
            const double y = wide ? ((double *)b.arenas[i])[k] : (double)((float *)b.arenas[i])[k];
            if (!(fabs(x - y) <= 1e-5 * (1 + fabs(x))))
                fail_msg("element %zu of %s: %.9g, not %.9g", k, NAMES[i], y, x);
        }
    free_state(&a);
    free_state(&b);
    trainer_destroy(&whole);
    trainer_destroy(&own);
    pair.together.recipe.run.deterministic = true;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sgd_has_the_same_bits),
        cmocka_unit_test(adamw_has_the_same_bits),
        cmocka_unit_test(checkpoints_are_each_others),
        cmocka_unit_test(fast_sums_agree),
    };
    return pair_run_tests(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
