#pragma once
// A run folder at its start: a first start writes the recipe, a resume checks it.

#include <stdbool.h>

#include "base/recipe.h"
#include "launcher/options.h"

struct run_request {
    const char *recipe_path;
    const struct text_list *sets;
    int ranks, threads; // 0: by default
    const char *hosts;  // or NULL
    const char *device; // settles run.precision: auto
    int gpus;           // of this machine, to have a rank each; 0: a rank a core
    bool fresh;         // what is in the folder does not count
};

struct run_plan {
    char folder[PATH_CAPACITY];
    struct recipe recipe; // resolved
    int ranks, threads;
    bool resumes; // the folder holds a run already
};

// `out` without slashes at its end, or NULL: runs/<recipe's name without .yaml>.
int run_folder_name(char folder[PATH_CAPACITY], const char *out, const char *recipe_path);
// The device that the run in the folder began on ("cpu"), or "auto".
const char *run_folder_device(const char *folder);
// Fills in the plan for `p->folder` and refuses what cannot be run. Writes nothing.
int run_plan_make(struct run_plan *p, const struct run_request *request);
// Refuses inputs that are missing or not ours.
int run_plan_check_inputs(const struct run_plan *p);
// Renames a folder that exists to <folder>.old-<n>.
int run_folder_move_aside(const char *folder);
// Writes recipe.yaml whole.
int run_folder_write_recipe(const struct run_plan *p);

// Removes what ranks were writing when they were killed.
void run_folder_clear_partials(const char *folder);
// Removes the state files of ranks that are gone, which would speak for the next ones.
void run_folder_clear_states(const char *folder);
