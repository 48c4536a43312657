// The tree's arithmetic: where ranges split and which ranks own which nodes.

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "comm/comm_ops.h"

enum { MOST_MICROBATCHES = 40 };

static void test_split_gives_the_larger_part_first(void **state)
{
    (void)state;
    assert_int_equal(comm_tree_split(0, 8), 4);
    assert_int_equal(comm_tree_split(0, 7), 4);
    assert_int_equal(comm_tree_split(3, 8), 6);
    assert_int_equal(comm_tree_split(5, 6), 6);
    assert_int_equal(comm_tree_split(5, 5), 5);
}

// Written apart from the library's loop: the node at `depth` that holds rank's leaf, by recursion.
static void check_nodes(int64_t a, int64_t b, int rank, int ranks, int64_t total, int size)
{
    if (ranks == 1) {
        int64_t first = -1, last = -1;
        comm_microbatch_range(total, rank, size, &first, &last);
        assert_int_equal(first, a);
        assert_int_equal(last, b);
        return;
    }
    int64_t middle = a + (b - a) / 2 + (b - a) % 2;
    check_nodes(a, middle, rank, ranks / 2, total, size);
    check_nodes(middle, b, rank + ranks / 2, ranks / 2, total, size);
}

static void test_powers_of_two_own_the_nodes_of_one_depth(void **state)
{
    (void)state;
    for (int size = 1; size <= 64; size *= 2)
        for (int64_t total = 0; total <= MOST_MICROBATCHES; total++)
            check_nodes(0, total, 0, size, total, size);
    check_nodes(0, (int64_t)1 << 40, 0, 8, (int64_t)1 << 40, 8);
}

static void test_five_microbatches_on_four_ranks(void **state)
{
    (void)state;
    const int64_t expected[4][2] = {{0, 2}, {2, 3}, {3, 4}, {4, 5}};
    for (int rank = 0; rank < 4; rank++) {
        int64_t first, last;
        comm_microbatch_range(5, rank, 4, &first, &last);
        assert_int_equal(first, expected[rank][0]);
        assert_int_equal(last, expected[rank][1]);
    }
}

static void test_other_sizes_split_evenly_and_cover_all(void **state)
{
    (void)state;
    for (int size = 3; size <= 12; size++)
        for (int64_t total = 0; total <= MOST_MICROBATCHES; total++) {
            int64_t next = 0;
            for (int rank = 0; rank < size; rank++) {
                int64_t first, last;
                comm_microbatch_range(total, rank, size, &first, &last);
                assert_int_equal(first, next);
                assert_in_range(last - first, total / size, (total + size - 1) / size);
                next = last;
            }
            assert_int_equal(next, total);
        }
}

static void test_tree_ranks(void **state)
{
    (void)state;
    const int expected[] = {0, 1, 2, 2, 4, 4, 4, 4, 8, 8};
    for (int size = 1; size <= 9; size++)
        assert_int_equal(tree_ranks(size), expected[size]);
    assert_int_equal(tree_ranks(INT32_MAX), 1 << 30);
}

static void test_add(void **state)
{
    (void)state;
    float a[3] = {1, 2, 3};
    const float b[3] = {10, 20, 30};
    tree_add(a, b, 2, REAL_F32);
    assert_true(a[0] == 11 && a[1] == 22 && a[2] == 3);
    double c[2] = {1, 2};
    const double d[2] = {1e-12, 5};
    tree_add(c, d, 2, REAL_F64);
    assert_true(c[0] == 1 + 1e-12 && c[1] == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_gives_the_larger_part_first),
        cmocka_unit_test(test_powers_of_two_own_the_nodes_of_one_depth),
        cmocka_unit_test(test_five_microbatches_on_four_ranks),
        cmocka_unit_test(test_other_sizes_split_evenly_and_cover_all),
        cmocka_unit_test(test_tree_ranks),
        cmocka_unit_test(test_add),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
