#include "tests/comm/engine_memory.h"

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/comm/values.h"

static struct comm *comm; // cmocka hands on no argument of the group's
static const struct test_memory *memory;

static void *create_on_host(size_t bytes)
{
    return test_allocate(bytes);
}

static void copy_on_host(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

const struct test_memory test_memory_host = {
    .create = create_on_host,
    .destroy = free,
    .put = copy_on_host,
    .get = copy_on_host,
    .most = SIZE_MAX,
};

// Values that lie on the host, and in the engine's memory.
struct both {
    void *host, *engine;
    size_t bytes, one, count;
    enum real_type type;
};

static void set_element(struct both *b, size_t i, double x)
{
    if (b->type == REAL_F64)
        ((double *)b->host)[i] = x;
    else
        ((float *)b->host)[i] = (float)x;
}

static double element(const struct both *b, size_t i)
{
    return b->type == REAL_F64 ? ((const double *)b->host)[i] : (double)((const float *)b->host)[i];
}

static void put(struct both *b)
{
    memory->put(b->engine, b->host, b->bytes);
}

static void get(struct both *b)
{
    assert_int_equal(comm_wait(comm), 0);
    memory->get(b->host, b->engine, b->bytes);
}

// This rank's values, in both places.
static struct both both_make(size_t count, enum real_type type)
{
    struct both b = {.one = real_bytes(type), .count = count, .type = type};
    b.bytes = count * b.one;
    b.host = test_allocate(b.bytes);
    b.engine = memory->create(b.bytes);
    for (size_t i = 0; i < count; i++)
        set_element(&b, i, test_value(comm_rank(comm), i));
    put(&b);
    return b;
}

static void both_free(struct both *b)
{
    memory->destroy(b->engine);
    free(b->host);
}

static double add(double a, double b, enum real_type type)
{
    return type == REAL_F64 ? a + b : (double)((float)a + (float)b);
}

static double rounded(int rank, size_t i, enum real_type type)
{
    return type == REAL_F64 ? test_value(rank, i) : (double)(float)test_value(rank, i);
}

static int whole_ranks(void) // the largest power of two
{
    int ranks = 1;
    while (2 * ranks <= comm_size(comm))
        ranks *= 2;
    return ranks;
}

// The sum over the ranks [a, b) of element i as the binary tree adds it; ranks past the largest
// power of two come first, added to the rank that stands in for them.
static double tree_sum_of(size_t i, int a, int b, enum real_type type)
{
    if (b - a > 1) {
        int middle = (a + b) / 2;
        return add(tree_sum_of(i, a, middle, type), tree_sum_of(i, middle, b, type), type);
    }
    const int stands_for = a + whole_ranks();
    double sum = rounded(a, i, type);
    return stands_for < comm_size(comm) ? add(sum, rounded(stands_for, i, type), type) : sum;
}

static double tree_sum(size_t i, enum real_type type)
{
    return tree_sum_of(i, 0, whole_ranks(), type);
}

static double line_sum(size_t i, enum real_type type)
{
    double sum = rounded(0, i, type);
    for (int r = 1; r < comm_size(comm); r++)
        sum = add(sum, rounded(r, i, type), type);
    return sum;
}

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void assert_tree(const struct both *b, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        const double got = element(b, i), tree = tree_sum(i, b->type);
        if (bits_of(got) != bits_of(tree))
            fail_msg("element %zu of %zu: %a, the tree's sum is %a", i, b->count, got, tree);
    }
}

static void assert_near(const struct both *b, size_t begin, size_t end)
{
    const double most = b->type == REAL_F64 ? 1e-10 : 1e-3; // of values up to 512
    for (size_t i = begin; i < end; i++) {
        const double error = element(b, i) - line_sum(i, REAL_F64);
        if (!(error < most && error > -most))
            fail_msg("element %zu of %zu is %g off", i, b->count, error);
    }
}

void engine_memory_check_sum(struct comm *c, const struct test_memory *m, size_t count,
                             enum real_type type)
{
    comm = c;
    memory = m;
    struct both b = both_make(count, type);
    assert_int_equal(comm_allreduce_sum(comm, b.engine, count, type, true), 0);
    get(&b);
    assert_tree(&b, 0, count);
    size_t unlike_line = 0;
    for (size_t i = 0; i < count; i++)
        unlike_line += element(&b, i) != line_sum(i, type);
    // With three ranks and more, these data tell the tree from a sum from left to right.
    if (comm_size(comm) >= 3 && count > 1000)
        assert_true(unlike_line > count / 100);
    both_free(&b);
}

static const size_t COUNTS[] = {0, 1, 2, 3, 5, 17, 1023, 9001, 131072, 262145, 300001};
enum { COUNT_COUNT = sizeof COUNTS / sizeof *COUNTS };

static void test_allreduce_has_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT_COUNT && COUNTS[i] <= memory->most; i++) {
        engine_memory_check_sum(comm, memory, COUNTS[i], REAL_F32);
        engine_memory_check_sum(comm, memory, COUNTS[i], REAL_F64);
    }
    if (memory->most > 2500003) // ten buckets: more than are under way at a time
        engine_memory_check_sum(comm, memory, 2500003, REAL_F32);
}

static void test_fast_allreduce_agrees_to_rounding(void **state)
{
    (void)state;
    for (int n = 0; n < COUNT_COUNT && COUNTS[n] <= memory->most; n++) {
        struct both b = both_make(COUNTS[n], n % 2 ? REAL_F32 : REAL_F64);
        assert_int_equal(comm_allreduce_sum(comm, b.engine, b.count, b.type, false), 0);
        get(&b);
        assert_near(&b, 0, b.count);
        both_free(&b);
    }
}

// In three buckets, each of them beside what is queued next.
static void test_sums_beside_have_the_bits_of_the_tree(void **state)
{
    (void)state;
    const size_t cuts[] = {9001, 6007, 32, 0};
    struct both b = both_make(cuts[0], REAL_F32);
    for (int i = 0; i < 3; i++)
        assert_int_equal(comm_allreduce_beside(comm, (char *)b.engine + cuts[i + 1] * b.one,
                                               cuts[i] - cuts[i + 1], b.type, true),
                         0);
    assert_int_equal(comm_join(comm), 0);
    get(&b);
    assert_tree(&b, 0, b.count);
    both_free(&b);
}

static void test_own_ranges_are_all_of_it(void **state)
{
    (void)state;
    const int size = comm_size(comm);
    for (int n = 0; n < COUNT_COUNT; n++)
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            size_t covered = 0;
            for (int a = 0; a < size; a++) {
                size_t begin, end, other_begin, other_end;
                comm_own_range(comm, COUNTS[n], deterministic, a, &begin, &end);
                assert_true(begin <= end && end <= COUNTS[n]);
                covered += end - begin;
                for (int b = 0; b < a; b++) {
                    comm_own_range(comm, COUNTS[n], deterministic, b, &other_begin, &other_end);
                    assert_true(other_end <= begin || end <= other_begin);
                }
                if (COUNTS[n] > 1000 && (!deterministic || a < whole_ranks())) { // fair parts
                    const size_t fair = COUNTS[n] / (size_t)(deterministic ? whole_ranks() : size);
                    assert_in_range(end - begin, fair - 16, fair + 4 * (size_t)size);
                }
            }
            assert_int_equal(covered, COUNTS[n]);
        }
}

// Each rank gets the sum of its own range, works on it alone (times 3), and gives it to all; what
// the reduce-scatter left elsewhere is nothing that counts.
static void check_sharded(size_t count, enum real_type type, bool deterministic)
{
    struct both b = both_make(count, type);
    size_t begin, end;
    comm_own_range(comm, count, deterministic, comm_rank(comm), &begin, &end);
    assert_int_equal(comm_reduce_scatter_sum(comm, b.engine, count, type, deterministic), 0);
    get(&b);
    if (deterministic)
        assert_tree(&b, begin, end);
    else
        assert_near(&b, begin, end);
    for (size_t i = 0; i < count; i++)
        set_element(&b, i, i >= begin && i < end ? 3.0 * tree_sum(i, REAL_F32) : (double)NAN);
    put(&b);
    assert_int_equal(comm_allgather_ranges(comm, b.engine, count, type, deterministic), 0);
    get(&b);
    for (size_t i = 0; i < count; i++)
        if ((float)element(&b, i) != (float)(3.0 * tree_sum(i, REAL_F32)))
            fail_msg("element %zu of %zu is %a", i, count, element(&b, i));
    both_free(&b);
}

static void test_reduce_scatter_and_gather_make_an_allreduce(void **state)
{
    (void)state;
    for (int n = 0; n < COUNT_COUNT && COUNTS[n] <= memory->most && COUNTS[n] < 200000; n++)
        for (int deterministic = 0; deterministic < 2; deterministic++) {
            check_sharded(COUNTS[n], n % 2 ? REAL_F64 : REAL_F32, deterministic);
        }
    if (memory->most > 2500003) // halves of ten buckets: more than are under way at a time
        check_sharded(2500003, REAL_F64, true);
}

static void test_engine_broadcast(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 100003};
    for (int n = 0; n < 3; n++)
        for (int root = 0; root < comm_size(comm); root++) {
            unsigned char *host = test_allocate(sizes[n]), *data = memory->create(sizes[n]);
            test_fill_bytes(host, sizes[n], comm_rank(comm));
            memory->put(data, host, sizes[n]);
            assert_int_equal(comm_engine_broadcast(comm, data, sizes[n], root), 0);
            assert_int_equal(comm_wait(comm), 0);
            memory->get(host, data, sizes[n]);
            test_assert_bytes(host, sizes[n], root, 0);
            memory->destroy(data);
            free(host);
        }
}

// A block of rank a to rank b holds a's bytes from 1000 b on.
static void check_exchange(size_t unit)
{
    struct test_blocks b = test_blocks_make(comm, unit);
    unsigned char *host = test_allocate(b.send_total > b.recv_total ? b.send_total : b.recv_total);
    void *send = memory->create(b.send_total), *recv = memory->create(b.recv_total);
    double total = comm_rank(comm) + 1;
    void *sum = memory->create(sizeof total);
    struct comm_request *request;
    memory->put(sum, &total, sizeof total);
    for (int r = 0; r < comm_size(comm); r++)
        for (size_t i = 0; i < b.send_counts[r]; i++)
            host[b.send_offsets[r] + i] = test_byte(comm_rank(comm), i + 1000 * (size_t)r);
    memory->put(send, host, b.send_total);
    assert_int_equal(comm_engine_exchange_start(comm, &request, send, b.send_counts, b.send_offsets,
                                                recv, b.recv_counts, b.recv_offsets),
                     0);
    // What is queued meanwhile has its own turn.
    assert_int_equal(comm_allreduce_sum(comm, sum, 1, REAL_F64, true), 0);
    assert_int_equal(comm_exchange_wait(comm, &request), 0);
    assert_null(request);
    assert_int_equal(comm_wait(comm), 0);
    memory->get(&total, sum, sizeof total);
    assert_true(total == comm_size(comm) * (comm_size(comm) + 1) / 2);
    memory->get(host, recv, b.recv_total);
    for (int r = 0; r < comm_size(comm); r++)
        test_assert_bytes(host + b.recv_offsets[r], b.recv_counts[r], r,
                          1000 * (size_t)comm_rank(comm));
    memory->destroy(sum);
    memory->destroy(recv);
    memory->destroy(send);
    free(host);
    test_blocks_free(&b);
}

static void test_engine_exchange(void **state)
{
    (void)state;
    check_exchange(0);
    check_exchange(1);
    check_exchange(70001);
}

int engine_memory_run(struct comm *c, const struct test_memory *m)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allreduce_has_the_bits_of_the_tree),
        cmocka_unit_test(test_fast_allreduce_agrees_to_rounding),
        cmocka_unit_test(test_sums_beside_have_the_bits_of_the_tree),
        cmocka_unit_test(test_own_ranges_are_all_of_it),
        cmocka_unit_test(test_reduce_scatter_and_gather_make_an_allreduce),
        cmocka_unit_test(test_engine_broadcast),
        cmocka_unit_test(test_engine_exchange),
    };
    comm = c;
    memory = m;
    return cmocka_run_group_tests_name("engine memory", tests, NULL, NULL);
}
