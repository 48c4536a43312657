#pragma once
// The job script of `retort submit`: slurm/train.sbatch with other settings.

#include <stdbool.h>
#include <stdio.h>

#include "launcher/options.h"
#include "launcher/sweep.h"

struct job {
    const char *name, *recipe, *folder; // of the run; borrowed, as all here
    const char *retort;                 // the command
    const char *work_folder;            // where it starts: other paths may be relative to it
    const char *nodes;                  // "2" or "1-4"
    bool elastic;                       // "1-4": comes back on as many nodes as there are
    int ranks_per_node, threads, gpus_per_node;
    const char *time, *partition, *account; // or NULL: the cluster's default
    int warn_s;                             // the ranks are told so long before the limit
    struct text_list modules;
    struct text_list options;  // of `retort run`
    const struct sweep *sweep; // or NULL
};

void job_script_write(const struct job *j, FILE *out);
