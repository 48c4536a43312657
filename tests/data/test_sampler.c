// Samplers: every sample once an epoch, the same steps on any number of ranks, even parts.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/dataset.h"
#include "data/sampler.h"

// Counts, batches and parts that divide nothing, batches larger than the split, single samples.
static const struct sampler CASES[] = {
    {.count = 1000, .batch = 50, .microbatches = 4},
    {.count = 1009, .batch = 47, .microbatches = 5},
    {.count = 997, .batch = 64, .microbatches = 8},
    {.count = 131, .batch = 200, .microbatches = 7},
    {.count = 1, .batch = 1, .microbatches = 4},
    {.count = 515, .batch = 3, .microbatches = 8},
    {.count = 4096, .batch = 256, .microbatches = 4},
};
enum { CASE_COUNT = sizeof CASES / sizeof CASES[0], RANKS_AT_MOST = 4 };

static struct sampler sampler_of(int which, int size, int64_t shuffle)
{
    struct sampler s = CASES[which];
    s.size = size;
    s.shuffle = shuffle;
    s.seed = 17;
    return s;
}

// Goes through all micro-batches of all ranks: positions are taken in order, without a gap.
static void check_coverage(struct sampler s)
{
    int64_t next = 0, ranks_first, ranks_last, first, last, share_first, share_last;
    for (int64_t step = 0; step < sampler_steps(&s); step++) {
        assert_int_equal(sampler_step_first(&s, step), next);
        int64_t expected = 0;
        for (s.rank = 0; s.rank < s.size; s.rank++) {
            sampler_own(&s, &ranks_first, &ranks_last);
            assert_int_equal(ranks_first, expected);
            sampler_share(&s, step, s.rank, &share_first, &share_last);
            assert_int_equal(share_first, next);
            for (int64_t m = ranks_first; m < ranks_last; m++) {
                sampler_microbatch(&s, step, m, &first, &last);
                assert_int_equal(first, next);
                assert_true(last >= first && last - first <= sampler_largest_microbatch(&s));
                for (; next < last; next++)
                    assert_int_equal(sampler_owner(&s, next), s.rank);
            }
            assert_int_equal(share_last, next);
            expected = ranks_last;
        }
        assert_int_equal(expected, s.microbatches);
        assert_int_equal(next - sampler_step_first(&s, step), sampler_step_size(&s, step));
    }
    assert_int_equal(next, s.count);
}

static void test_every_position_has_one_owner(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++)
        for (int size = 1; size <= RANKS_AT_MOST; size++) {
            check_coverage(sampler_of(c, size, SHUFFLE_GLOBAL));
            check_coverage(sampler_of(c, size, SHUFFLE_SHARD));
        }
}

static void test_steps_are_the_batch_and_a_rest(void **state)
{
    (void)state;
    struct sampler s = sampler_of(1, 1, SHUFFLE_GLOBAL);
    assert_int_equal(sampler_steps(&s), 22);
    assert_int_equal(sampler_step_size(&s, 0), 47);
    assert_int_equal(sampler_step_size(&s, 21), 1009 - 21 * 47);
    assert_int_equal(sampler_largest_microbatch(&s), 10);
    s = sampler_of(3, 1, SHUFFLE_GLOBAL);
    assert_int_equal(sampler_steps(&s), 1);
    assert_int_equal(sampler_step_size(&s, 0), 131);
    assert_int_equal(sampler_largest_microbatch(&s), 19);
}

static void test_parts_differ_by_one_at_most(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++) {
        struct sampler s = sampler_of(c, 1, SHUFFLE_GLOBAL);
        for (int64_t step = 0; step < sampler_steps(&s); step++) {
            int64_t first, last, size = sampler_step_size(&s, step), before = size;
            for (int64_t m = 0; m < s.microbatches; m++) {
                sampler_microbatch(&s, step, m, &first, &last);
                assert_true(last - first == size / s.microbatches ||
                            last - first == size / s.microbatches + 1);
                assert_true(last - first <= before); // larger ones first
                before = last - first;
            }
        }
    }
}

// Positions and samples are each other's inverse, and all samples have a position.
static void check_epoch(const struct sampler *s, int64_t epoch)
{
    uint8_t *seen = calloc((size_t)s->count, 1);
    for (int64_t p = 0; p < s->count; p++) {
        int64_t sample = sampler_sample(s, epoch, p);
        assert_true(sample >= 0 && sample < s->count);
        assert_int_equal(seen[sample], 0);
        seen[sample] = 1;
        assert_int_equal(sampler_position(s, epoch, sample), p);
    }
    free(seen);
}

static void test_every_sample_once_an_epoch(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++)
        for (int64_t epoch = 0; epoch < 2; epoch++) {
            struct sampler s = sampler_of(c, 1, SHUFFLE_GLOBAL);
            check_epoch(&s, epoch);
            for (int size = 1; size <= RANKS_AT_MOST; size++) {
                s = sampler_of(c, size, SHUFFLE_SHARD);
                check_epoch(&s, epoch);
            }
        }
}

static void test_ranks_change_no_step(void **state)
{
    (void)state;
    struct sampler one = sampler_of(1, 1, SHUFFLE_GLOBAL);
    for (int size = 2; size <= RANKS_AT_MOST; size++) {
        struct sampler s = sampler_of(1, size, SHUFFLE_GLOBAL);
        s.rank = size - 1;
        for (int64_t step = 0; step < sampler_steps(&one); step++)
            for (int64_t m = 0; m < s.microbatches; m++) {
                int64_t first, last, first_of_one, last_of_one;
                sampler_microbatch(&s, step, m, &first, &last);
                sampler_microbatch(&one, step, m, &first_of_one, &last_of_one);
                assert_int_equal(first, first_of_one);
                assert_int_equal(last, last_of_one);
                for (int64_t p = first; p < last; p++)
                    assert_int_equal(sampler_sample(&s, 5, p), sampler_sample(&one, 5, p));
            }
    }
}

static void test_epochs_and_seeds_differ(void **state)
{
    (void)state;
    struct sampler s = sampler_of(0, 1, SHUFFLE_GLOBAL), other = s;
    int same_epoch = 0, same_seed = 0;
    other.seed = 18;
    for (int64_t p = 0; p < s.count; p++) {
        same_epoch += sampler_sample(&s, 0, p) == sampler_sample(&s, 1, p);
        same_seed += sampler_sample(&s, 0, p) == sampler_sample(&other, 0, p);
    }
    assert_true(same_epoch < 10); // 1 in the mean
    assert_true(same_seed < 10);
}

// The order of an epoch is part of what a run is repeated from. The numbers are those of the Python
// in docs/formats.md.
static void test_order_stays_what_it_is(void **state)
{
    (void)state;
    struct sampler s = sampler_of(0, 1, SHUFFLE_GLOBAL);
    static const int64_t FIRST[5] = {118, 390, 604, 403, 72};
    for (int64_t p = 0; p < 5; p++)
        assert_int_equal(sampler_sample(&s, 3, p), FIRST[p]);
}

// With shuffle: shard a rank's positions are its own rows of the file.
static void test_shard_keeps_own_rows(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++) {
        struct sampler s = sampler_of(c, 3, SHUFFLE_SHARD);
        for (int64_t p = 0; p < s.count; p++) {
            int64_t first, last, sample = sampler_sample(&s, 1, p);
            shard_rows(s.count, sampler_owner(&s, p), s.size, &first, &last);
            assert_true(sample >= first && sample < last);
        }
        for (int64_t step = 0; step < sampler_steps(&s); step++) {
            int64_t even = s.count / sampler_steps(&s);
            assert_true(labs((long)(sampler_step_size(&s, step) - even)) <= s.size);
        }
    }
}

static void test_rows_are_whole_blocks(void **state)
{
    (void)state;
    for (int c = 0; c < CASE_COUNT; c++)
        for (int size = 1; size <= 9; size++) {
            int64_t next = 0, first, last, smallest = INT64_MAX, largest = 0;
            for (int r = 0; r < size; r++) {
                shard_rows(CASES[c].count, r, size, &first, &last);
                assert_int_equal(first, next);
                assert_true(first % DATASET_BLOCK == 0 || first == CASES[c].count);
                next = last;
                int64_t blocks = dataset_block_count(last - first);
                smallest = blocks < smallest ? blocks : smallest;
                largest = blocks > largest ? blocks : largest;
            }
            assert_int_equal(next, CASES[c].count);
            assert_true(largest - smallest <= 1);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_position_has_one_owner),
        cmocka_unit_test(test_steps_are_the_batch_and_a_rest),
        cmocka_unit_test(test_parts_differ_by_one_at_most),
        cmocka_unit_test(test_every_sample_once_an_epoch),
        cmocka_unit_test(test_ranks_change_no_step),
        cmocka_unit_test(test_epochs_and_seeds_differ),
        cmocka_unit_test(test_order_stays_what_it_is),
        cmocka_unit_test(test_shard_keeps_own_rows),
        cmocka_unit_test(test_rows_are_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
