#include "tests/comm/values.h"

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>

// A full mix of 64 bits (splitmix64's).
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

double test_value(int rank, size_t i)
{
    uint64_t h = mix((uint64_t)rank * 1000003u + i + 1);
    double unit = (double)(h >> 11) / 9007199254740992.0 * 2 - 1;
    return unit * (double)(1 << (h % 10));
}

// Cheap, since tens of megabytes are compared (Knuth's multiplicative hash).
unsigned char test_byte(int rank, size_t i)
{
    return (unsigned char)((((uint32_t)i + 17) * 2654435761u + (uint32_t)rank * 40503u * 65536u) >>
                           24);
}

void *test_allocate(size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    return p;
}

void test_fill_bytes(unsigned char *out, size_t bytes, int rank)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = test_byte(rank, i);
}

void test_assert_bytes(const unsigned char *data, size_t bytes, int rank, size_t skip)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != test_byte(rank, i + skip))
            fail_msg("byte %zu is %u, rank %d sent %u", i, data[i], rank,
                     test_byte(rank, i + skip));
}

// What rank a sends to rank b: nothing where (a + 2b) % 3 is 0, unless a is alone.
static size_t block_bytes(const struct comm *comm, int a, int b, size_t unit)
{
    return comm_size(comm) == 1 ? unit : (size_t)((a + 2 * b) % 3) * (unit + (size_t)b);
}

struct test_blocks test_blocks_make(const struct comm *comm, size_t unit)
{
    struct test_blocks b = {0};
    const int size = comm_size(comm), rank = comm_rank(comm);
    size_t **arrays[] = {&b.send_counts, &b.send_offsets, &b.recv_counts, &b.recv_offsets};
    for (int i = 0; i < 4; i++)
        *arrays[i] = test_allocate((size_t)size * sizeof(size_t));
    for (int r = 0; r < size; r++) {
        b.send_counts[r] = block_bytes(comm, rank, r, unit);
        b.recv_counts[r] = block_bytes(comm, r, rank, unit);
        b.send_offsets[r] = b.send_total;
        b.recv_offsets[r] = b.recv_total;
        b.send_total += b.send_counts[r];
        b.recv_total += b.recv_counts[r];
    }
    return b;
}

void test_blocks_free(struct test_blocks *b)
{
    free(b->send_counts);
    free(b->send_offsets);
    free(b->recv_counts);
    free(b->recv_offsets);
}
