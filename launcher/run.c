// retort run: the stages of a recipe, from the first start or from where the folder stands.

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/left_ranks.h"
#include "launcher/options.h"
#include "launcher/restart.h"
#include "launcher/result.h"
#include "launcher/run_events.h"
#include "launcher/run_folder.h"
#include "launcher/stages.h"
#include "launcher/start.h"

enum { RANKS_MAX = 4096, THREADS_MAX = 1024 };

static const char ABOUT[] =
    "Trains what RECIPE.yaml says: the stages teacher, logits, baseline, student. Run it again to\n"
    "go on where it stopped, on as many ranks as you like. INT (Ctrl-C), TERM and USR1 let it\n"
    "write a checkpoint and leave with code 75; a second INT or TERM ends it at once.";

struct arguments {
    int ranks, threads, max_restarts;
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
        {"max-restarts", OPTION_COUNT, "N", &a->max_restarts,
         "start again from the last checkpoint when a rank dies, so often (default: never)", 0,
         RESTARTS_MAX},
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

// A run that Slurm brought back says so.
static void record_requeue(const char *folder)
{
    const char *job = getenv("SLURM_JOB_ID"), *count = getenv("SLURM_RESTART_COUNT");
    if (!count || !*count)
        return;
    run_events_add(folder, json_pack("{s:s, s:I, s:I, s:s}", "event", "requeue", "time",
                                     (json_int_t)time(NULL), "slurm_restart_count",
                                     (json_int_t)strtoll(count, NULL, 10), "job", job ? job : ""));
}

static int open_folder(const struct run_plan *p, bool fresh, struct owner *owner)
{
    char request[PATH_CAPACITY];
    int rc = owner_check(p->folder);
    if (rc == RETORT_OK && fresh)
        rc = run_folder_move_aside(p->folder);
    if (rc == RETORT_OK)
        rc = folder_create(p->folder);
    if (rc == RETORT_OK)
        rc = owner_take(owner, p->folder);
    if (rc == RETORT_OK)
        rc = run_folder_write_recipe(p);
    if (rc == RETORT_OK)
        rc = path_join(request, p->folder, "stop-requested");
    if (rc == RETORT_OK) {
        left_ranks_end(p->folder);
        unlink(request); // of an earlier start
        run_folder_clear_states(p->folder);
        run_folder_clear_partials(p->folder);
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

static int run_ranks(const struct run_plan *p, const struct arguments *a, const struct start *asked)
{
    struct owner owner = {0};
    struct start start = *asked;
    int rc = open_folder(p, a->fresh, &owner);
    if (rc == RETORT_OK) {
        log_info("%s %s with %d rank%s of %d thread%s", p->resumes ? "going on in" : "starting in",
                 p->folder, p->ranks, p->ranks == 1 ? "" : "s", p->threads,
                 p->threads == 1 ? "" : "s");
        start.owner = &owner;
        if (p->resumes)
            record_requeue(p->folder);
        rc = restart_ranks(&start, a->max_restarts);
        run_folder_clear_partials(p->folder);
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
    rc = a.dry_run ? start_print(&start) : run_ranks(&plan, &a, &start);
fail:
    return rc;
}
