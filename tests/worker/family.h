#pragma once
// The processes of a run, found from one of its ranks: its launcher, its mpirun, all its ranks.

#include <sys/types.h>

// 0 when there is no such process.
pid_t parent_of(pid_t pid);
// Kills them all, as a power failure would, but the caller: none of them learns of the others' end.
void kill_family(pid_t rank);
