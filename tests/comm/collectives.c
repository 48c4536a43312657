#include "tests/comm/collectives.h"

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

#include "tests/comm/values.h"

static struct comm *comm; // cmocka hands on no argument of the group's
static const struct test_memory *memory;

static void test_agree_takes_the_largest_code(void **state)
{
    (void)state;
    const int rank = comm_rank(comm), size = comm_size(comm);
    assert_int_equal(comm_agree(comm, 0), 0);
    assert_int_equal(comm_agree(comm, rank == size - 1 ? 5 : 0), 5);
    assert_int_equal(comm_agree(comm, rank == 0 ? 3 : 0), 3);
    assert_int_equal(comm_agree(comm, 10 + rank), 10 + size - 1);
    assert_false(comm_any(comm, false));
    assert_true(comm_any(comm, rank == size - 1));
    assert_int_equal(comm_barrier(comm), 0);
}

// Above one piece of 16 MiB too, and from every root.
static void test_broadcast(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 100003, ((size_t)16 << 20) + 5};
    for (int n = 0; n < 4; n++)
        for (int root = 0; root < comm_size(comm); root++) {
            if (sizes[n] > 1 << 20 && root != comm_size(comm) - 1)
                continue; // one large one is enough
            unsigned char *data = test_allocate(sizes[n]);
            if (comm_rank(comm) == root)
                test_fill_bytes(data, sizes[n], root);
            else
                memset(data, 0, sizes[n] + 1);
            assert_int_equal(comm_broadcast(comm, data, sizes[n], root), 0);
            test_assert_bytes(data, sizes[n], root, 0);
            free(data);
        }
}

static void test_allgather(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 1001, ((size_t)16 << 20) + 3};
    for (int n = 0; n < 4; n++) {
        unsigned char *mine = test_allocate(sizes[n]);
        unsigned char *all = test_allocate(sizes[n] * (size_t)comm_size(comm));
        test_fill_bytes(mine, sizes[n], comm_rank(comm));
        assert_int_equal(comm_allgather(comm, mine, sizes[n], all), 0);
        for (int r = 0; r < comm_size(comm); r++)
            test_assert_bytes(all + sizes[n] * (size_t)r, sizes[n], r, 0);
        free(all);
        free(mine);
    }
}

// Rank r sends r * step bytes (so rank 0 none), placed in the reverse order of ranks.
static void check_gatherv(size_t step, int root)
{
    const size_t size = (size_t)comm_size(comm), bytes = step * (size_t)comm_rank(comm);
    size_t *counts = test_allocate(size * sizeof *counts),
           *offsets = test_allocate(size * sizeof *offsets);
    size_t total = 0;
    for (size_t r = size; r-- > 0; total += counts[r]) {
        counts[r] = step * r;
        offsets[r] = total;
    }
    const bool receives = comm_rank(comm) == root;
    unsigned char *mine = test_allocate(bytes), *all = receives ? test_allocate(total) : NULL;
    test_fill_bytes(mine, bytes, comm_rank(comm));
    assert_int_equal(comm_gatherv(comm, mine, bytes, all, receives ? counts : NULL,
                                  receives ? offsets : NULL, root),
                     0);
    for (size_t r = 0; receives && r < size; r++)
        test_assert_bytes(all + offsets[r], counts[r], (int)r, 0);
    free(all);
    free(mine);
    free(offsets);
    free(counts);
}

static void test_gatherv(void **state)
{
    (void)state;
    for (int root = 0; root < comm_size(comm); root++)
        check_gatherv(1003, root);
    check_gatherv(((size_t)6 << 20) + 1, 0); // rank 3's in two pieces
}

// A block of rank a to rank b holds a's bytes from 1000 b on.
static void check_exchange(size_t unit, bool by_test)
{
    struct test_blocks b = test_blocks_make(comm, unit);
    unsigned char *send = test_allocate(b.send_total), *recv = test_allocate(b.recv_total);
    memset(recv, 0, b.recv_total + 1);
    for (int r = 0; r < comm_size(comm); r++)
        for (size_t i = 0; i < b.send_counts[r]; i++)
            send[b.send_offsets[r] + i] = test_byte(comm_rank(comm), i + 1000 * (size_t)r);
    struct comm_request *request = NULL;
    assert_int_equal(comm_exchange_start(comm, &request, send, b.send_counts, b.send_offsets, recv,
                                         b.recv_counts, b.recv_offsets),
                     0);
    assert_non_null(request);
    engine_memory_check_sum(comm, memory, 1023,
                            REAL_F32); // other collectives pass while it is in flight
    for (bool done = false; by_test && !done;)
        assert_int_equal(comm_exchange_test(comm, &request, &done), 0);
    if (!by_test)
        assert_int_equal(comm_exchange_wait(comm, &request), 0);
    assert_null(request);
    for (int r = 0; r < comm_size(comm); r++)
        test_assert_bytes(recv + b.recv_offsets[r], b.recv_counts[r], r,
                          1000 * (size_t)comm_rank(comm));
    free(recv);
    free(send);
    test_blocks_free(&b);
}

static void test_exchange(void **state)
{
    (void)state;
    check_exchange(0, false);
    check_exchange(1, true);
    check_exchange(70001, true);
    check_exchange(((size_t)9 << 20) + 7, false); // twice the unit: two pieces
    check_exchange(333, comm_rank(comm) == 0);    // some test, some wait
}

static void test_ranks(void **state)
{
    (void)state;
    assert_in_range(comm_rank(comm), 0, comm_size(comm) - 1);
    assert_int_equal(comm_local_size(comm), comm_size(comm)); // the tests run on one node
    assert_int_equal(comm_local_rank(comm), comm_rank(comm));
    assert_true(strlen(comm_host(comm)) > 0);
    int *all = test_allocate((size_t)comm_size(comm) * sizeof *all), mine = comm_rank(comm);
    assert_int_equal(comm_allgather(comm, &mine, sizeof mine, all), 0);
    for (int r = 0; r < comm_size(comm); r++)
        assert_int_equal(all[r], r);
    free(all);
}

int collectives_run(struct comm *c, const struct test_memory *m)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),     cmocka_unit_test(test_agree_takes_the_largest_code),
        cmocka_unit_test(test_broadcast), cmocka_unit_test(test_allgather),
        cmocka_unit_test(test_gatherv),   cmocka_unit_test(test_exchange),
    };
    comm = c;
    memory = m;
    return cmocka_run_group_tests_name("host memory", tests, NULL, NULL) + engine_memory_run(c, m);
}
