#pragma once
// What the tests of collectives send: data follow from (rank, index), so each rank knows what all
// hold.

#include "comm/comm.h"

// In (-512, 512), over ten binary orders of magnitude, so that the order of a sum shows in its
// bits.
double test_value(int rank, size_t i);
unsigned char test_byte(int rank, size_t i);
void test_fill_bytes(unsigned char *out, size_t bytes, int rank);
// data[bytes] are rank's bytes from `skip` on; else fails the test.
void test_assert_bytes(const unsigned char *data, size_t bytes, int rank, size_t skip);
// Never NULL, of 0 bytes neither; fails the test.
void *test_allocate(size_t bytes);

// An all-to-all with blocks of many sizes, some of them empty: counts and offsets [size].
struct test_blocks {
    size_t *send_counts, *send_offsets, *recv_counts, *recv_offsets;
    size_t send_total, recv_total;
};
struct test_blocks test_blocks_make(const struct comm *comm, size_t unit);
void test_blocks_free(struct test_blocks *b);
