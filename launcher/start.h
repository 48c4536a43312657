#pragma once
// Starts the ranks of `retort-worker` under mpirun or srun, passes signals on, and says how they
// ended; or one process of it, alone.
//
// mpirun runs in a process group of its own, so that a terminal's Ctrl-C reaches the launcher only.

#include <stdbool.h>

#include "launcher/ending.h"
#include "launcher/owner.h"

struct start {
    const char *run_folder;       // or NULL: nothing to save, so a stop is a plain end
    int ranks, threads;           // threads of each rank
    bool gpus;                    // a rank finds the cores near its GPU by itself
    const char *hosts;            // "a:4,b:4", or NULL for this host
    const char *launcher;         // "auto", "mpirun" or "srun"; NULL is mpirun
    const char *const *arguments; // of retort-worker, NULL at the end
    struct owner *owner;          // kept fresh meanwhile; or NULL
};

// Prints the command line and starts nothing. RETORT_FAILED when retort-worker is not found.
int start_print(const struct start *s);
// Runs the ranks to their end. INT, TERM, HUP and USR1 become USR1 for the ranks (they checkpoint
// and leave); a second INT or TERM kills all at once. Returns the exit code: the ranks' own
// (base/error.h), RETORT_RANK when one was killed, or 128 + the signal that ended all at once.
// Nothing of the run is left on this host.
int start_ranks(const struct start *s);
// The same; the line of a failure is the caller's to print (verdict_say).
void start_run(const struct start *s, struct verdict *v);

// Becomes retort-worker, without mpirun, for what one process does: its output, exit code and end
// are this one's. Returns only when that cannot be: RETORT_FAILED or RETORT_MEMORY.
int start_alone(const char *const *arguments);
