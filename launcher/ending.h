#pragma once
// How ranks ended: the exit code, and the one line when none of them has said what is wrong.

#include "launcher/relay.h"

struct ending {
    const struct relay *relay; // borrowed: what mpirun and the ranks said
    const char *run_folder;    // borrowed; NULL for a run without one
    int status;                // mpirun's, as waitpid gives it
    int stop;                  // the signal that asked for an end, or 0
    int killed;                // the signal that ended all at once, or 0
};

// Prints the line where there is one to print, and returns the code to leave with.
int ending_report(const struct ending *e);
