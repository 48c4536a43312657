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

enum { CAUSE_CAPACITY = 4 * RELAY_TEXT };

struct verdict {
    int code;                   // to leave with
    int rank;                   // that failed, or -1 when none is named
    bool asked;                 // for from outside
    bool said;                  // a rank has printed the cause itself
    const char *remedy;         // what the line ends with; "" for none
    char cause[CAUSE_CAPACITY]; // "" when nothing failed
};

// Prints nothing.
void ending_judge(struct verdict *out, const struct ending *e);
// Prints the line where there is one to print, and returns the code.
int verdict_say(const struct verdict *v);
