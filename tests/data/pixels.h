#pragma once
// The memory that the shards of test_shard.c lie in: one program has the host's, others a GPU's.

#include "comm/comm.h"
#include "data/pixel_memory.h"

struct test_pixels {
    struct comm *comm; // MPI's, joined by the GPUs where there are any
    struct pixel_memory memory;
    void (*get)(void *to, const void *from, size_t bytes); // to the host, after what is queued
    bool host_too; // this program looks at shards in the host's memory too
};
// Returns false when there is no GPU.
bool test_pixels_open(struct test_pixels *t);
void test_pixels_close(struct test_pixels *t);

void test_pixels_copy(void *to, const void *from, size_t bytes); // get of the host's memory
