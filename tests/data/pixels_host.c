// The host's memory under another name: shards go the ways of an engine's memory.

#include "base/error.h"
#include "tests/data/pixels.h"

bool test_pixels_open(struct test_pixels *t)
{
    *t = (struct test_pixels){
        .memory = pixel_memory_host, .get = test_pixels_copy, .host_too = true};
    t->memory.is_host = false;
    CHECK(comm_mpi_create(&t->comm) == RETORT_OK);
    return true;
}

void test_pixels_close(struct test_pixels *t)
{
    comm_destroy(&t->comm);
}
