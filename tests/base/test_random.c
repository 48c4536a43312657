// Philox gives the published numbers; a permutation is one, and can be undone.

// cmocka needs these before it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"

static void assert_block(struct random_block block, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    assert_int_equal(block.v[0], a);
    assert_int_equal(block.v[1], b);
    assert_int_equal(block.v[2], c);
    assert_int_equal(block.v[3], d);
}

// The known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
static void test_philox_known_answers(void **state)
{
    (void)state;
    assert_block(random_draw(0, (enum random_domain)0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c,
                 0x9b00dbd8);
    assert_block(random_draw(UINT64_MAX, (enum random_domain)UINT32_MAX, UINT32_MAX, UINT64_MAX),
                 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
    // counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0: which word is which.
    assert_block(random_draw(0x299f31d0a4093822, (enum random_domain)0x243f6a88, 0x85a308d3,
                             0x0370734413198a2e),
                 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

static void test_units_and_bounds(void **state)
{
    (void)state;
    assert_true(random_unit(0) > 0);
    assert_true(random_unit(UINT32_MAX) < 1);
    assert_int_equal(random_below(0, 9), 0);
    assert_int_equal(random_below(UINT32_MAX, 9), 8);
    assert_int_equal(random_below(0x80000000, 9), 4);
}

static void test_normal_pairs(void **state)
{
    (void)state;
    enum { PAIRS = 20000 };
    double sum = 0, squares = 0, cross = 0, fourth = 0;
    for (uint64_t i = 0; i < PAIRS; i++) {
        struct random_block r = random_draw(7, RANDOM_INIT, 0, i);
        double pair[2];
        random_normal_pair(r.v[0], r.v[1], pair);
        for (int k = 0; k < 2; k++) {
            sum += pair[k];
            squares += pair[k] * pair[k];
            fourth += pow(pair[k], 4);
        }
        cross += pair[0] * pair[1];
    }
    // Five standard errors each: 1, sqrt(2), sqrt(96), 1 over the root of the count.
    assert_true(fabs(sum / (2 * PAIRS)) < 5 / sqrt(2 * PAIRS));
    assert_true(fabs(squares / (2 * PAIRS) - 1) < 5 * sqrt(2) / sqrt(2 * PAIRS));
    assert_true(fabs(fourth / (2 * PAIRS) - 3) < 5 * sqrt(96) / sqrt(2 * PAIRS));
    assert_true(fabs(cross / PAIRS) < 5 / sqrt(PAIRS));
    double extreme[2];
    random_normal_pair(0, 0, extreme);
    assert_true(extreme[0] > 6.7 && extreme[0] < 6.8); // sqrt(2 ln 2^33)
}

static void test_permutation_is_a_bijection(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 16, 17, 127, 1000, 4097, 100000};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct permutation p;
        permutation_init(&p, 42, RANDOM_SHUFFLE, 3, counts[c]);
        unsigned char *seen = calloc(counts[c], 1);
        assert_non_null(seen);
        for (uint64_t i = 0; i < counts[c]; i++) {
            uint64_t value = permutation_apply(&p, i);
            assert_true(value < counts[c]);
            assert_int_equal(seen[value], 0);
            seen[value] = 1;
            assert_int_equal(permutation_invert(&p, value), i);
        }
        free(seen);
    }
}

static void test_permutation_of_large_counts_is_undone(void **state)
{
    (void)state;
    static const uint64_t counts[] = {UINT64_C(1) << 32, (UINT64_C(1) << 40) + 1, UINT64_MAX};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct permutation p;
        permutation_init(&p, 1, RANDOM_PACK, 0, counts[c]);
        for (uint64_t i = 0; i < 20; i++) {
            uint64_t position = counts[c] - 1 - i * (counts[c] / 20);
            uint64_t value = permutation_apply(&p, position);
            assert_true(value < counts[c]);
            assert_true(permutation_invert(&p, value) == position);
        }
    }
}

// Positions where two permutations of 1,000 agree: about one if they are independent.
static int agreements(const struct permutation *a, const struct permutation *b)
{
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++)
        same += permutation_apply(a, i) == permutation_apply(b, i);
    return same;
}

static void test_permutations_differ_by_seed_domain_and_key(void **state)
{
    (void)state;
    struct permutation p, other_seed, other_domain, other_key, identity_check;
    permutation_init(&p, 1, RANDOM_SHUFFLE, 0, 1000);
    permutation_init(&other_seed, 2, RANDOM_SHUFFLE, 0, 1000);
    permutation_init(&other_domain, 1, RANDOM_PACK, 0, 1000);
    permutation_init(&other_key, 1, RANDOM_SHUFFLE, 1, 1000);
    permutation_init(&identity_check, 1, RANDOM_SHUFFLE, 0, 1000);
    assert_int_equal(agreements(&p, &identity_check), 1000);
    assert_in_range(agreements(&p, &other_seed), 0, 8);
    assert_in_range(agreements(&p, &other_domain), 0, 8);
    assert_in_range(agreements(&p, &other_key), 0, 8);
    int fixed = 0;
    for (uint64_t i = 0; i < 1000; i++)
        fixed += permutation_apply(&p, i) == i;
    assert_in_range(fixed, 0, 8);
}

// Over 6,000 keys each of the 6 orders of three comes about 1,000 times.
static void test_small_permutations_are_even(void **state)
{
    (void)state;
    int orders[27] = {0};
    for (uint32_t key = 0; key < 6000; key++) {
        struct permutation p;
        permutation_init(&p, 9, RANDOM_SHUFFLE, key, 3);
        orders[permutation_apply(&p, 0) * 9 + permutation_apply(&p, 1) * 3 +
               permutation_apply(&p, 2)]++;
    }
    static const int all[] = {5, 7, 11, 15, 19, 21}; // 012 021 102 120 201 210 in base 3
    for (size_t i = 0; i < 6; i++)
        assert_in_range(orders[all[i]], 1000 - 150, 1000 + 150); // five deviations of 29
}

// The order of a data set file is part of the format: it must not change between versions.
static void test_permutation_is_pinned(void **state)
{
    (void)state;
    static const uint64_t expected[10] = {0, 9, 7, 2, 6, 1, 5, 4, 3, 8};
    struct permutation p;
    permutation_init(&p, 1, RANDOM_PACK, 0, 10);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(permutation_apply(&p, i), expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_units_and_bounds),
        cmocka_unit_test(test_normal_pairs),
        cmocka_unit_test(test_permutation_is_a_bijection),
        cmocka_unit_test(test_permutation_of_large_counts_is_undone),
        cmocka_unit_test(test_permutations_differ_by_seed_domain_and_key),
        cmocka_unit_test(test_small_permutations_are_even),
        cmocka_unit_test(test_permutation_is_pinned),
    };
    return cmocka_run_group_tests_name("base/random", tests, NULL, NULL);
}
