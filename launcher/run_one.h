#pragma once
// One run of `retort run`: the stages of a recipe in one folder.

#include <stdbool.h>

#include "launcher/options.h"

struct run_arguments {
    const char *recipe; // the file
    int ranks, threads; // 0: by default
    int max_restarts;
    int gpus; // of this machine that the device could use; 0: of no account
    const char *out, *stages, *device, *hosts, *launcher,
        *array; // out, stages, hosts, array or NULL
    struct text_list sets;
    bool fresh, dry_run, print_recipe;
};

// From the first start, or from where the folder stands; prints its table at the end. With
// `skip_done`, a folder whose stages are all done is left alone.
int run_one(const struct run_arguments *a, const char *folder, bool skip_done);
