// Learning rates against closed forms written out here.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/schedule.h"

enum { STEPS = 10 }; // updates an epoch

static struct network_recipe recipe_of(enum schedule_kind kind, double warmup_epochs)
{
    struct network_recipe r = {.epochs = 5};
    r.optimizer.lr = 0.4;
    r.schedule.kind = kind;
    r.schedule.warmup_epochs = warmup_epochs;
    return r;
}

static void assert_lr(const struct network_recipe *r, int64_t step, double expected)
{
    double lr = schedule_lr(r, step, STEPS);
    if (!(fabs(lr - expected) <= 1e-12))
        fail_msg("update %lld: %.15g, not %.15g", (long long)step, lr, expected);
}

static void warm_up_is_linear_and_ends_at_lr(void **state)
{
    (void)state;
    struct network_recipe r = recipe_of(SCHEDULE_CONSTANT, 2);
    for (int64_t step = 0; step < 20; step++)
        assert_lr(&r, step, 0.4 * (double)(step + 1) / 20.0);
    for (int64_t step = 20; step < 50; step++)
        assert_lr(&r, step, 0.4);
}

// Half an epoch of 7 updates is 3.5: the fourth update must not overshoot.
static void warm_up_over_part_of_an_update_stays_below_lr(void **state)
{
    (void)state;
    struct network_recipe r = recipe_of(SCHEDULE_CONSTANT, 0.5);
    assert_true(fabs(schedule_lr(&r, 0, 7) - 0.4 / 3.5) < 1e-12);
    assert_true(fabs(schedule_lr(&r, 2, 7) - 0.4 * 3 / 3.5) < 1e-12);
    assert_true(fabs(schedule_lr(&r, 3, 7) - 0.4) < 1e-12);
    assert_true(fabs(schedule_lr(&r, 4, 7) - 0.4) < 1e-12);
}

static void constant_without_warm_up(void **state)
{
    (void)state;
    struct network_recipe r = recipe_of(SCHEDULE_CONSTANT, 0);
    assert_lr(&r, 0, 0.4);
    assert_lr(&r, 49, 0.4);
}

static void step_drops_after_whole_periods(void **state)
{
    (void)state;
    struct network_recipe r = recipe_of(SCHEDULE_STEP, 0);
    r.schedule.step_epochs = 2;
    r.schedule.step_factor = 0.1;
    assert_lr(&r, 0, 0.4);
    assert_lr(&r, 19, 0.4);
    assert_lr(&r, 20, 0.04);
    assert_lr(&r, 39, 0.04);
    assert_lr(&r, 40, 0.004);
    assert_lr(&r, 49, 0.004);
}

static void cosine_falls_from_lr_to_final(void **state)
{
    (void)state;
    struct network_recipe r = recipe_of(SCHEDULE_COSINE, 1);
    r.schedule.final_lr = 0.1;
    assert_lr(&r, 0, 0.04);
    assert_lr(&r, 9, 0.4);
    assert_lr(&r, 10, 0.4); // 40 updates of cosine begin
    assert_lr(&r, 20, 0.1 + 0.3 * (2 + sqrt(2)) / 4);
    assert_lr(&r, 30, 0.25);
    assert_lr(&r, 40, 0.1 + 0.3 * (2 - sqrt(2)) / 4);
    assert_lr(&r, 50, 0.1);
    assert_lr(&r, 60, 0.1); // past the end it stays
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear_and_ends_at_lr),
        cmocka_unit_test(warm_up_over_part_of_an_update_stays_below_lr),
        cmocka_unit_test(constant_without_warm_up),
        cmocka_unit_test(step_drops_after_whole_periods),
        cmocka_unit_test(cosine_falls_from_lr_to_final),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
