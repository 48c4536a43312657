// retort run: the stages of a recipe, from the first start or from where the folder stands.

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/left_ranks.h"
#include "launcher/options.h"
#include "launcher/result.h"
#include "launcher/run_folder.h"
#include "launcher/stages.h"
#include "launcher/start.h"

enum { RANKS_MAX = 4096, THREADS_MAX = 1024 };

static const char ABOUT[] =
    "Trains what RECIPE.yaml says: the stages teacher, logits, baseline, student. Run it again to\n"
    "go on where it stopped, on as many ranks as you like. INT (Ctrl-C), TERM and USR1 let it\n"
    "write a checkpoint and leave with code 75; a second INT or TERM ends it at once.";

struct arguments {
    int ranks, threads;
    const char *out, *stages, *device, *hosts, *launcher;
    struct text_list sets;
    bool fresh, dry_run, print_recipe;
};

static int parse(struct arguments *a, int argc, char **argv, int *first, bool *helped)
{
    const struct option_row rows[] = {
        {"ranks", OPTION_COUNT, "N", &a->ranks,
         "processes (default: a rank a core; on resume those of the first start)", 1, RANKS_MAX},
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
        {"device", OPTION_CHOICE, "auto|cpu|reference", &a->device,
         "what computes (default auto: the fastest)", 0, 0},
        {"hosts", OPTION_TEXT, "a:4,b:4", &a->hosts, "start the ranks there, by ssh", 0, 0},
        {"launcher", OPTION_CHOICE, "auto|mpirun|srun", &a->launcher,
         "what starts them (default auto: srun in a Slurm allocation if it can, else mpirun)", 0,
         0},
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

static void remove_matching(const char *folder, const char *pattern)
{
    char path[PATH_CAPACITY];
    glob_t found;
    if (path_join(path, folder, pattern) != RETORT_OK || glob(path, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        unlink(found.gl_pathv[i]);
    globfree(&found);
}

// What ranks were writing when they were killed.
static void clear_partials(const char *folder)
{
    remove_matching(folder, "*.partial");
    remove_matching(folder, "*/*.partial");
}

// Leftovers of an earlier start: what would speak for this one, and what is half-written.
static void clear_traces(const char *folder)
{
    remove_matching(folder, "stop-requested");
    remove_matching(folder, "ranks/*.state");
    clear_partials(folder);
}

static int open_folder(const struct run_plan *p, bool fresh, struct owner *owner)
{
    int rc = owner_check(p->folder);
    if (rc == RETORT_OK && fresh)
        rc = run_folder_move_aside(p->folder);
    if (rc == RETORT_OK)
        rc = folder_create(p->folder);
    if (rc == RETORT_OK)
        rc = owner_take(owner, p->folder);
    if (rc == RETORT_OK)
        rc = run_folder_write_recipe(p);
    if (rc == RETORT_OK) {
        left_ranks_end(p->folder);
        clear_traces(p->folder);
    }
    return rc;
}

// A first start that was refused before it made anything leaves no recipe that would bind the next.
static void forget_refused_start(const struct run_plan *p, int code)
{
    char metrics[PATH_CAPACITY], recipe[PATH_CAPACITY];
    if (p->resumes || (code != RETORT_USAGE && code != RETORT_INPUT))
        return;
    if (path_join(metrics, p->folder, "metrics.jsonl") == RETORT_OK && file_size(metrics) <= 0 &&
        path_join(recipe, p->folder, "recipe.yaml") == RETORT_OK)
        unlink(recipe);
}

static int run_ranks(const struct run_plan *p, bool fresh, const struct start *asked)
{
    struct owner owner = {0};
    struct start start = *asked;
    int rc = open_folder(p, fresh, &owner);
    if (rc == RETORT_OK) {
        log_info("%s %s with %d rank%s of %d thread%s", p->resumes ? "going on in" : "starting in",
                 p->folder, p->ranks, p->ranks == 1 ? "" : "s", p->threads,
                 p->threads == 1 ? "" : "s");
        start.owner = &owner;
        rc = start_ranks(&start);
        clear_partials(p->folder);
        forget_refused_start(p, rc);
    }
    owner_release(&owner);
    if (rc == RETORT_OK)
        rc = result_print(p->folder);
    if (rc == RETORT_STOPPED)
        log_info("stopped after a checkpoint; the same command goes on from there");
    return rc;
}

int run_main(int argc, char **argv)
{
    struct arguments a = {.device = "auto", .launcher = "auto"};
    static struct run_plan plan; // large, and needed once
    char stages[STAGES_CAPACITY];
    bool chosen[STAGE_COUNT];
    bool helped;
    int first, rc;
    TRY(parse(&a, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    const struct run_request request = {argv[first], &a.sets,  a.ranks, a.threads,
                                        a.hosts,     a.device, a.fresh};
    TRY(run_folder_name(plan.folder, a.out, argv[first]));
    TRY(run_plan_make(&plan, &request));
    TRY(stages_choose(chosen, "run", a.stages, &plan.recipe));
    stages_list(stages, chosen);
    if (a.print_recipe)
        return recipe_print(&plan.recipe, stdout);
    TRY(run_plan_check_inputs(&plan));
    const char *arguments[] = {"run", plan.folder, "--device", a.device, "--stages", stages, NULL};
    const struct start start = {.run_folder = plan.folder,
                                .ranks = plan.ranks,
                                .threads = plan.threads,
                                .hosts = a.hosts,
                                .launcher = a.launcher,
                                .arguments = arguments};
    rc = a.dry_run ? start_print(&start) : run_ranks(&plan, a.fresh, &start);
fail:
    return rc;
}
