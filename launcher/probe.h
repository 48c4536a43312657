#pragma once
// Whether srun can start MPI ranks: its PMIx and that of the MPI library may not fit each other, or
// there is none.

#include <stdbool.h>
#include <stddef.h>

// Starts `ranks` ranks of `worker` on `nodes` nodes of the allocation by srun, which do nothing but
// count themselves. False when they do not come up within 30 seconds as one MPI world; `said` is
// then the last line of the reason.
bool probe_srun(const char *worker, int nodes, int ranks, char *said, size_t said_bytes);
