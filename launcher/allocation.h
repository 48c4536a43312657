#pragma once
// The Slurm allocation this process runs in, as its environment tells, and how ranks start there.

#include <stdbool.h>

struct start;

struct allocation {
    int nodes;
    int ranks;      // tasks the job asked for, on all nodes; at least one a node
    int node_ranks; // on the node that has most
    int node_cpus;  // of this node that are the job's, as Slurm counts them; 0: not known
    int node_cores; // cores of this node that are the job's
    int rank_cpus;  // --cpus-per-task, 0: not asked
};

// False outside an allocation.
bool allocation_read(struct allocation *out);
// What SLURM_TASKS_PER_NODE, "2(x3),1", means: all tasks, and the most on one node. False when it
// makes no sense.
bool allocation_tasks(const char *text, int *all, int *most);
// Threads a rank has when nobody said: the node's cores divided, or what --cpus-per-task gives.
int allocation_threads(const struct allocation *a);

enum launcher { LAUNCHER_MPIRUN, LAUNCHER_SRUN };
// What starts the ranks of `s` with the program `worker`: as its --launcher says; for auto srun,
// inside an allocation where it starts two ranks of one MPI world (tried out), else mpirun.
// RETORT_USAGE when srun is asked for and there is no allocation.
int launcher_choose(enum launcher *out, const struct start *s, const char *worker);
