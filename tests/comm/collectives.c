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

static struct comm *comm; // cmocka hands on no argument of the group's

// A full mix of 64 bits (splitmix64's).
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// In (-512, 512), over ten binary orders of magnitude, so that the order of a sum shows in its
// bits.
static double value_of(int rank, size_t i)
{
    uint64_t h = mix((uint64_t)rank * 1000003u + i + 1);
    double unit = (double)(h >> 11) / 9007199254740992.0 * 2 - 1;
    return unit * (double)(1 << (h % 10));
}

// Cheap, since tens of megabytes are compared (Knuth's multiplicative hash).
static unsigned char byte_of(int rank, size_t i)
{
    return (unsigned char)((((uint32_t)i + 17) * 2654435761u + (uint32_t)rank * 40503u * 65536u) >>
                           24);
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    return p;
}

static void fill_reals(void *out, size_t count, int rank, enum real_type type)
{
    for (size_t i = 0; i < count; i++)
        if (type == REAL_F64)
            ((double *)out)[i] = value_of(rank, i);
        else
            ((float *)out)[i] = (float)value_of(rank, i);
}

static void fill_bytes(unsigned char *out, size_t bytes, int rank)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = byte_of(rank, i);
}

static void assert_bytes(const unsigned char *data, size_t bytes, int rank, size_t skip)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != byte_of(rank, i + skip))
            fail_msg("byte %zu is %u, rank %d sent %u", i, data[i], rank, byte_of(rank, i + skip));
}

static double add(double a, double b, enum real_type type)
{
    return type == REAL_F64 ? a + b : (double)((float)a + (float)b);
}

static double rounded(int rank, size_t i, enum real_type type)
{
    return type == REAL_F64 ? value_of(rank, i) : (double)(float)value_of(rank, i);
}

// The sum over the ranks [a, b) of element i as the binary tree adds it; ranks past `ranks`, the
// largest power of two, come first, added to the rank that stands in for them.
static double tree_sum(size_t i, int a, int b, int ranks, enum real_type type)
{
    if (b - a > 1) {
        int middle = (a + b) / 2;
        return add(tree_sum(i, a, middle, ranks, type), tree_sum(i, middle, b, ranks, type), type);
    }
    double sum = rounded(a, i, type);
    return a + ranks < comm_size(comm) ? add(sum, rounded(a + ranks, i, type), type) : sum;
}

static double line_sum(size_t i, enum real_type type)
{
    double sum = rounded(0, i, type);
    for (int r = 1; r < comm_size(comm); r++)
        sum = add(sum, rounded(r, i, type), type);
    return sum;
}

static double element(const void *data, size_t i, enum real_type type)
{
    return type == REAL_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static void check_allreduce(size_t count, enum real_type type)
{
    int ranks = 1;
    while (2 * ranks <= comm_size(comm))
        ranks *= 2;
    void *data = allocate(count * real_bytes(type));
    fill_reals(data, count, comm_rank(comm), type);
    assert_int_equal(comm_allreduce_sum(comm, data, count, type, true), 0);
    size_t unlike_line = 0;
    for (size_t i = 0; i < count; i++) {
        const double got = element(data, i, type), tree = tree_sum(i, 0, ranks, ranks, type);
        if (bits_of(got) != bits_of(tree))
            fail_msg("element %zu of %zu: %a, the tree's sum is %a", i, count, got, tree);
        unlike_line += got != line_sum(i, type);
    }
    // With three ranks and more, these data tell the tree from a sum from left to right.
    if (comm_size(comm) >= 3 && count > 1000)
        assert_true(unlike_line > count / 100);
    free(data);
}

static const size_t COUNTS[] = {0, 1, 2, 3, 5, 1023, 131072, 262145, 300001};
enum { COUNT_COUNT = sizeof COUNTS / sizeof *COUNTS };

static void test_allreduce_has_the_bits_of_the_tree(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT_COUNT; i++) {
        check_allreduce(COUNTS[i], REAL_F32);
        check_allreduce(COUNTS[i], REAL_F64);
    }
    check_allreduce(2500003, REAL_F32); // ten buckets: more than are under way at a time
}

static void test_fast_allreduce_agrees_to_rounding(void **state)
{
    (void)state;
    for (int n = 0; n < COUNT_COUNT; n++) {
        double *data = allocate(COUNTS[n] * sizeof *data);
        fill_reals(data, COUNTS[n], comm_rank(comm), REAL_F64);
        assert_int_equal(comm_allreduce_sum(comm, data, COUNTS[n], REAL_F64, false), 0);
        for (size_t i = 0; i < COUNTS[n]; i++) {
            double error = data[i] - line_sum(i, REAL_F64);
            if (!(error < 1e-10 && error > -1e-10))
                fail_msg("element %zu is %g off", i, error);
        }
        free(data);
    }
}

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
            unsigned char *data = allocate(sizes[n]);
            if (comm_rank(comm) == root)
                fill_bytes(data, sizes[n], root);
            else
                memset(data, 0, sizes[n] + 1);
            assert_int_equal(comm_broadcast(comm, data, sizes[n], root), 0);
            assert_bytes(data, sizes[n], root, 0);
            free(data);
        }
}

static void test_allgather(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 1001, ((size_t)16 << 20) + 3};
    for (int n = 0; n < 4; n++) {
        unsigned char *mine = allocate(sizes[n]);
        unsigned char *all = allocate(sizes[n] * (size_t)comm_size(comm));
        fill_bytes(mine, sizes[n], comm_rank(comm));
        assert_int_equal(comm_allgather(comm, mine, sizes[n], all), 0);
        for (int r = 0; r < comm_size(comm); r++)
            assert_bytes(all + sizes[n] * (size_t)r, sizes[n], r, 0);
        free(all);
        free(mine);
    }
}

// Rank r sends r * step bytes (so rank 0 none), placed in the reverse order of ranks.
static void check_gatherv(size_t step, int root)
{
    const size_t size = (size_t)comm_size(comm), bytes = step * (size_t)comm_rank(comm);
    size_t *counts = allocate(size * sizeof *counts), *offsets = allocate(size * sizeof *offsets);
    size_t total = 0;
    for (size_t r = size; r-- > 0; total += counts[r]) {
        counts[r] = step * r;
        offsets[r] = total;
    }
    const bool receives = comm_rank(comm) == root;
    unsigned char *mine = allocate(bytes), *all = receives ? allocate(total) : NULL;
    fill_bytes(mine, bytes, comm_rank(comm));
    assert_int_equal(comm_gatherv(comm, mine, bytes, all, receives ? counts : NULL,
                                  receives ? offsets : NULL, root),
                     0);
    for (size_t r = 0; receives && r < size; r++)
        assert_bytes(all + offsets[r], counts[r], (int)r, 0);
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

struct blocks {
    size_t *send_counts, *send_offsets, *recv_counts, *recv_offsets;
    size_t send_total, recv_total;
};

// What rank a sends to rank b: nothing where (a + 2b) % 3 is 0, unless a is alone.
static size_t block_bytes(int a, int b, size_t unit)
{
    return comm_size(comm) == 1 ? unit : (size_t)((a + 2 * b) % 3) * (unit + (size_t)b);
}

static struct blocks make_blocks(size_t unit)
{
    struct blocks b = {0};
    const int size = comm_size(comm), rank = comm_rank(comm);
    size_t **arrays[] = {&b.send_counts, &b.send_offsets, &b.recv_counts, &b.recv_offsets};
    for (int i = 0; i < 4; i++)
        *arrays[i] = allocate((size_t)size * sizeof(size_t));
    for (int r = 0; r < size; r++) {
        b.send_counts[r] = block_bytes(rank, r, unit);
        b.recv_counts[r] = block_bytes(r, rank, unit);
        b.send_offsets[r] = b.send_total;
        b.recv_offsets[r] = b.recv_total;
        b.send_total += b.send_counts[r];
        b.recv_total += b.recv_counts[r];
    }
    return b;
}

static void free_blocks(struct blocks *b)
{
    free(b->send_counts);
    free(b->send_offsets);
    free(b->recv_counts);
    free(b->recv_offsets);
}

// A block of rank a to rank b holds a's bytes from 1000 b on.
static void check_exchange(size_t unit, bool by_test)
{
    struct blocks b = make_blocks(unit);
    unsigned char *send = allocate(b.send_total), *recv = allocate(b.recv_total);
    memset(recv, 0, b.recv_total + 1);
    for (int r = 0; r < comm_size(comm); r++)
        for (size_t i = 0; i < b.send_counts[r]; i++)
            send[b.send_offsets[r] + i] = byte_of(comm_rank(comm), i + 1000 * (size_t)r);
    struct comm_request *request = NULL;
    assert_int_equal(comm_exchange_start(comm, &request, send, b.send_counts, b.send_offsets, recv,
                                         b.recv_counts, b.recv_offsets),
                     0);
    assert_non_null(request);
    check_allreduce(1023, REAL_F32); // other collectives pass while it is in flight
    for (bool done = false; by_test && !done;)
        assert_int_equal(comm_exchange_test(comm, &request, &done), 0);
    if (!by_test)
        assert_int_equal(comm_exchange_wait(comm, &request), 0);
    assert_null(request);
    for (int r = 0; r < comm_size(comm); r++)
        assert_bytes(recv + b.recv_offsets[r], b.recv_counts[r], r, 1000 * (size_t)comm_rank(comm));
    free(recv);
    free(send);
    free_blocks(&b);
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
    int *all = allocate((size_t)comm_size(comm) * sizeof *all), mine = comm_rank(comm);
    assert_int_equal(comm_allgather(comm, &mine, sizeof mine, all), 0);
    for (int r = 0; r < comm_size(comm); r++)
        assert_int_equal(all[r], r);
    free(all);
}

int collectives_run(struct comm *c)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_allreduce_has_the_bits_of_the_tree),
        cmocka_unit_test(test_fast_allreduce_agrees_to_rounding),
        cmocka_unit_test(test_agree_takes_the_largest_code),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_allgather),
        cmocka_unit_test(test_gatherv),
        cmocka_unit_test(test_exchange),
    };
    comm = c;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
