#pragma once
// The command line of mpirun or srun for a start.

#include <stddef.h>

#include "launcher/start.h"

enum { COMMAND_WORDS = 128, COMMAND_TEXT = 32768 };

struct start_command {
    char text[COMMAND_TEXT]; // the words, one after the other, NUL-terminated each
    size_t used;
    char *words[COMMAND_WORDS + 1]; // into text; NULL at the end
    int count;
    bool by_mpirun; // else by srun
};

int start_command_build(struct start_command *c, const struct start *s);
// One line that a shell would take.
void start_command_print(const struct start_command *c);
// The program of a rank, into out[PATH_CAPACITY]; false, and nothing is printed, when it is not
// there.
bool start_worker_find(char *out);
// The same with a line that says so: RETORT_FAILED.
int start_worker_path(char *out);
