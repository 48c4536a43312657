#pragma once
// A sweep: "KEY=V1,V2,V3", a run for each value in a folder of its own.

#include "base/file.h"

enum { SWEEP_MAX = 256, SWEEP_TEXT = 8192 };

struct sweep {
    char text[SWEEP_TEXT];        // the settings, NUL-terminated each
    const char *items[SWEEP_MAX]; // "KEY=V1", as --set takes it; into text
    int count;
};

// RETORT_USAGE with one line when it is none.
int sweep_parse(struct sweep *out, const char *command, const char *text);
// The run folder of one of its settings: `folder`/KEY=V1, slashes of the value as underscores.
int sweep_folder(char out[PATH_CAPACITY], const char *folder, const char *setting);
