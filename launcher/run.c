// retort run: the stages of a recipe, from the first start or from where the folder stands.

#include <stdio.h>

#include "base/error.h"
#include "base/recipe.h"
#include "launcher/choices.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/restart.h"
#include "launcher/run_array.h"
#include "launcher/run_folder.h"

enum { RANKS_MAX = 4096, THREADS_MAX = 1024 };

static const char ABOUT[] =
    "Trains what RECIPE.yaml says: the stages teacher, logits, baseline, student. Run it again to\n"
    "go on where it stopped, on as many ranks as you like. INT (Ctrl-C), TERM and USR1 let it\n"
    "write a checkpoint and leave with code 75; a second INT or TERM ends it at once.";

static int parse(struct run_arguments *a, int argc, char **argv, int *first, bool *helped)
{
    const struct option_row rows[] = {
        {"ranks", OPTION_COUNT, "N", &a->ranks,
         "processes (default: one a GPU or core; on resume those of the first start)", 1,
         RANKS_MAX},
        {"threads", OPTION_COUNT, "N", &a->threads,
         "of each rank (default: the cores divided at the first start)", 1, THREADS_MAX},
        {"out", OPTION_TEXT, "DIR", &a->out, "the run folder (default: runs/<recipe's name>)", 0,
         0},
        {"set", OPTION_LIST, "KEY=VALUE", &a->sets,
         "overrides a key of the recipe; may be repeated", 0, 0},
        {"stages", OPTION_TEXT, "LIST", &a->stages,
         "only these now, with commas between (default: the recipe's)", 0, 0},
        {"fresh", OPTION_FLAG, NULL, &a->fresh,
         "move a folder that exists to DIR.old-N and start anew", 0, 0},
        {"device", OPTION_DEVICE, DEVICE_CHOICES, &a->device,
         "what computes (default auto: GPUs that can be used, else the CPU)", 0, 0},
        {"hosts", OPTION_TEXT, "a:4,b:4", &a->hosts, "start the ranks there, by ssh", 0, 0},
        {"launcher", OPTION_CHOICE, LAUNCHER_CHOICES, &a->launcher,
         "what starts them (default auto: srun in a Slurm allocation if it can, else mpirun)", 0,
         0},
        {"max-restarts", OPTION_COUNT, "N", &a->max_restarts,
         "start again from the last checkpoint when a rank dies, so often (default: never)", 0,
         RESTARTS_MAX},
        {"array", OPTION_TEXT, "KEY=V1,V2", &a->array,
         "a run for each value, one after the other, in DIR/KEY=V1 and so on", 0, 0},
        {"dry-run", OPTION_FLAG, NULL, &a->dry_run,
         "print the command that would be run, and write nothing", 0, 0},
        {"print-recipe", OPTION_FLAG, NULL, &a->print_recipe,
         "print the recipe with every default filled in, and write nothing", 0, 0},
    };
    const struct command_options options = {
        "run", "RECIPE.yaml", ABOUT, rows, sizeof rows / sizeof rows[0], 1, 1};
    int rc = options_parse(&options, argc, argv, first, helped);
    if (rc == RETORT_OK && *helped) {
        printf("\nKeys of a recipe, each with its default:\n\n");
        recipe_describe(stdout);
    }
    return rc;
}

int run_main(int argc, char **argv)
{
    struct run_arguments a = {.device = "auto", .launcher = "auto"};
    char folder[PATH_CAPACITY];
    bool helped;
    int first, rc;
    TRY(parse(&a, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    a.recipe = argv[first];
    TRY(run_folder_name(folder, a.out, a.recipe));
    rc = a.array ? run_array(&a, folder) : run_one(&a, folder, false);
fail:
    return rc;
}
