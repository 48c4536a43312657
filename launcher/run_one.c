#include "launcher/run_one.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/gpus.h"
#include "launcher/left_ranks.h"
#include "launcher/restart.h"
#include "launcher/result.h"
#include "launcher/run_events.h"
#include "launcher/run_facts.h"
#include "launcher/run_folder.h"
#include "launcher/stages.h"
#include "launcher/start.h"

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
    char metrics[PATH_CAPACITY], recipe[PATH_CAPACITY], device[PATH_CAPACITY];
    if (p->resumes || (code != RETORT_USAGE && code != RETORT_INPUT))
        return;
    if (path_join(metrics, p->folder, "metrics.jsonl") == RETORT_OK && file_size(metrics) <= 0 &&
        path_join(recipe, p->folder, "recipe.yaml") == RETORT_OK &&
        path_join(device, p->folder, "device.txt") == RETORT_OK) {
        unlink(recipe);
        unlink(device);
    }
}

static int run_ranks(const struct run_plan *p, const struct run_arguments *a,
                     const struct start *asked)
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
        if (owner_refresh(&owner)) { // else it is another run's by now
            run_folder_clear_partials(p->folder);
            forget_refused_start(p, rc);
        }
    }
    owner_release(&owner);
    if (rc == RETORT_OK)
        rc = result_print(p->folder);
    if (rc == RETORT_STOPPED)
        log_info("stopped after a checkpoint; the same command goes on from there");
    return rc;
}

static bool is_done(const char *folder)
{
    json_t *facts = NULL;
    bool done =
        run_facts(&facts, folder) == RETORT_OK && json_is_true(json_object_get(facts, "done"));
    json_decref(facts);
    return done;
}

// A run goes on where it began; a new one takes GPUs that can be used.
static void settle_device(struct run_arguments *a, const char *folder)
{
    if (strcmp(a->device, "auto") == 0 && !a->fresh)
        a->device = run_folder_device(folder);
    a->gpus = gpus_settle(&a->device, a->ranks);
}

int run_one(const struct run_arguments *asked, const char *folder, bool skip_done)
{
    static struct run_plan plan; // large, and needed once at a time
    struct run_arguments settled = *asked;
    const struct run_arguments *a = &settled;
    settle_device(&settled, folder);
    const struct run_request request = {a->recipe, &a->sets,  a->ranks, a->threads,
                                        a->hosts,  a->device, a->gpus,  a->fresh};
    char stages[STAGES_CAPACITY];
    bool chosen[STAGE_COUNT];
    int rc;
    TRY(path_join(plan.folder, "", folder));
    TRY(run_plan_make(&plan, &request));
    TRY(stages_choose(chosen, "run", a->stages, &plan.recipe));
    stages_list(stages, chosen);
    if (a->print_recipe)
        return recipe_print(&plan.recipe, stdout);
    TRY(run_plan_check_inputs(&plan));
    const char *arguments[] = {"run", plan.folder, "--device", a->device, "--stages", stages, NULL};
    const struct start start = {.run_folder = plan.folder,
                                .ranks = plan.ranks,
                                .threads = plan.threads,
                                .gpus = gpus_are(a->device),
                                .hosts = a->hosts,
                                .launcher = a->launcher,
                                .arguments = arguments};
    if (a->dry_run)
        return start_print(&start);
    if (skip_done && plan.resumes && is_done(folder)) {
        log_info("%s is done", folder);
        return RETORT_OK;
    }
    rc = run_ranks(&plan, a, &start);
fail:
    return rc;
}
