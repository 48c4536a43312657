// The collectives under MPI. A rank that fails a test ends all, since the others may wait for it.

#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "tests/comm/collectives.h"

// What mpirun was asked for: a library that made every process a world of its own would pass the
// tests of one rank.
static int ranks_asked_for(void)
{
    const char *ranks = getenv("OMPI_COMM_WORLD_SIZE"); // Open MPI's
    if (!ranks)
        ranks = getenv("PMI_SIZE"); // MPICH's
    return ranks ? (int)strtol(ranks, NULL, 10) : 1;
}

int main(void)
{
    struct comm *c = NULL;
    if (comm_mpi_create(&c) != RETORT_OK)
        return RETORT_RANK;
    CHECK(comm_size(c) == ranks_asked_for());
    int failed = collectives_run(c, &test_memory_host);
    if (failed)
        comm_abort(c, RETORT_FAILED);
    comm_destroy(&c);
    return 0;
}
