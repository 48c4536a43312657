// retort submit: writes the Slurm job script of a run into its folder, and submits it.

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/choices.h"
#include "launcher/commands.h"
#include "launcher/job_script.h"
#include "launcher/options.h"
#include "launcher/owner.h"
#include "launcher/restart.h"
#include "launcher/run_folder.h"
#include "launcher/sbatch.h"
#include "launcher/shell_word.h"
#include "launcher/stages.h"

enum { NODES_MAX = 4096, RANKS_MAX = 1024, THREADS_MAX = 1024, WARN_MAX_S = 65535, TEXT = 64 };

static const char ABOUT[] =
    "Writes the job script into the run folder (DIR/job.sbatch, with a copy of the recipe) and\n"
    "submits it. The job comes back by itself: it checkpoints ahead of its time limit or of a\n"
    "pre-emption and goes back into the queue, and Slurm brings it back after a dead node, on\n"
    "the nodes it then gets. Whatever stands after -- is sbatch's: -- --mem=64G --qos=long";

struct arguments {
    const char *nodes, *time, *partition, *account;
    int ranks_per_node, threads, gpus_per_node, warn_s, max_restarts;
    const char *out, *stages, *device, *launcher, *array;
    struct text_list modules, sets;
    bool chain, fresh, dry_run;
};

struct submission {
    struct arguments a;
    struct job job;
    char folder[PATH_CAPACITY], copy[PATH_CAPACITY], script[PATH_CAPACITY];
    char retort[PATH_CAPACITY], work_folder[PATH_CAPACITY];
    char threads[TEXT], microbatches[TEXT], restarts[TEXT];
    int most_nodes;
    struct sweep sweep;
    bool chosen[STAGE_COUNT];
    char *const *more; // sbatch's own words, NULL at the end
};

static int parse(struct arguments *a, int argc, char **argv, int *first, bool *helped)
{
    const struct option_row rows[] = {
        {"nodes", OPTION_TEXT, "N|A-B", &a->nodes, "how many, or what is enough (default: 1)", 0,
         0},
        {"ranks-per-node", OPTION_COUNT, "N", &a->ranks_per_node,
         "processes on each (default: one, or one a GPU)", 1, RANKS_MAX},
        {"threads", OPTION_COUNT, "N", &a->threads,
         "of each rank, and CPUs asked for it (default: the recipe's, or 1)", 1, THREADS_MAX},
        {"gpus-per-node", OPTION_COUNT, "N", &a->gpus_per_node, "on each (default: none)", 1,
         RANKS_MAX},
        {"time", OPTION_TEXT, "D-HH:MM:SS", &a->time, "the limit (default: the cluster's)", 0, 0},
        {"partition", OPTION_TEXT, "NAME", &a->partition, "where (default: the cluster's)", 0, 0},
        {"account", OPTION_TEXT, "NAME", &a->account, "who pays (default: yours)", 0, 0},
        {"module", OPTION_LIST, "NAME", &a->modules, "to load in the job; may be repeated", 0, 0},
        {"warn", OPTION_COUNT, "SECONDS", &a->warn_s,
         "checkpoint so long before the limit (default: 180)", 1, WARN_MAX_S},
        {"out", OPTION_TEXT, "DIR", &a->out, "the run folder (default: runs/<recipe's name>)", 0,
         0},
        {"set", OPTION_LIST, "KEY=VALUE", &a->sets,
         "overrides a key of the recipe; may be repeated", 0, 0},
        {"stages", OPTION_TEXT, "LIST", &a->stages,
         "only these, with commas between (default: the recipe's)", 0, 0},
        {"device", OPTION_DEVICE, DEVICE_CHOICES, &a->device,
         "what computes (default auto: GPUs that can be used, else the CPU)", 0, 0},
        {"launcher", OPTION_CHOICE, LAUNCHER_CHOICES, &a->launcher,
         "what starts the ranks (default auto: srun if it can, else mpirun)", 0, 0},
        {"max-restarts", OPTION_COUNT, "N", &a->max_restarts,
         "start again on the same nodes when a rank dies, so often (default: never)", 0,
         RESTARTS_MAX},
        {"chain", OPTION_FLAG, NULL, &a->chain,
         "a job for each stage, each after the one before has gone well", 0, 0},
        {"array", OPTION_TEXT, "KEY=V1,V2,…", &a->array,
         "a job array: a run for each value, in DIR/KEY=VALUE", 0, 0},
        {"fresh", OPTION_FLAG, NULL, &a->fresh,
         "move a folder that exists to DIR.old-N and start anew", 0, 0},
        {"dry-run", OPTION_FLAG, NULL, &a->dry_run,
         "print the script and the commands, write and submit nothing", 0, 0},
    };
    const struct command_options options = {
        "submit", "RECIPE.yaml", ABOUT, rows, sizeof rows / sizeof rows[0], 1, 1};
    return options_parse(&options, argc, argv, first, helped);
}

// "2", or "1-4": the most.
static int parse_nodes(int *most, const char *nodes)
{
    const char *text = nodes;
    char *end;
    long low = strtol(text, &end, 10), high = low;
    if (*end == '-' && end > text) {
        text = end + 1;
        high = strtol(text, &end, 10);
    }
    if (end == text || *end || low < 1 || high < low || high > NODES_MAX)
        return FAIL(RETORT_USAGE, "submit: --nodes %s: expected a number or a range such as 1-4",
                    nodes);
    *most = (int)high;
    return RETORT_OK;
}

// The run must be one that can start: what is wrong is said now, and not by the job at night.
static int check_run(struct run_plan *p, const struct submission *s, const char *recipe,
                     const char *setting)
{
    const struct arguments *a = &s->a;
    struct text_list sets = a->sets;
    const int ranks = s->most_nodes * a->ranks_per_node;
    int rc = RETORT_OK;
    TRY_ELSE(sets.count < OPTION_LIST_CAPACITY, RETORT_USAGE, "submit: too many --set");
    if (setting) {
        sets.items[sets.count++] = setting;
        TRY(sweep_folder(p->folder, s->folder, setting));
    } else {
        (void)snprintf(p->folder, sizeof p->folder, "%s", s->folder);
    }
    TRY(owner_check(p->folder));
    const struct run_request request = {.recipe_path = recipe,
                                        .sets = &sets,
                                        .ranks = ranks,
                                        .threads = a->threads,
                                        .device = a->device,
                                        .fresh = a->fresh};
    TRY(run_plan_make(p, &request));
    TRY(run_plan_check_inputs(p));
fail:
    return rc;
}

static int check_runs(struct run_plan *p, struct submission *s, const char *recipe)
{
    int rc = RETORT_OK;
    if (!s->a.array)
        return check_run(p, s, recipe, NULL);
    TRY(sweep_parse(&s->sweep, "submit", s->a.array));
    for (int i = 0; i < s->sweep.count; i++)
        TRY(check_run(p, s, recipe, s->sweep.items[i]));
fail:
    return rc;
}

static int add_option(struct text_list *list, const char *word)
{
    if (list->count == OPTION_LIST_CAPACITY)
        return FAIL(RETORT_USAGE, "submit: too many options for retort run");
    list->items[list->count++] = word;
    return RETORT_OK;
}

static int add_pair(struct text_list *list, const char *option, const char *value)
{
    int rc = value ? add_option(list, option) : RETORT_OK;
    return rc == RETORT_OK && value ? add_option(list, value) : rc;
}

// As many micro-batches as there may ever be ranks: it can come back with fewer, to the same bits.
static int set_microbatches(struct submission *s)
{
    (void)snprintf(s->microbatches, sizeof s->microbatches, "run.microbatches=%d",
                   s->most_nodes * s->a.ranks_per_node);
    return add_pair(&s->job.options, "--set", s->microbatches);
}

// `asked`: the recipe as it is written, with --set; `auto` not resolved.
static int choose_options(struct submission *s, const struct run_plan *p,
                          const struct recipe *asked)
{
    const struct arguments *a = &s->a;
    struct text_list *options = &s->job.options;
    int rc = RETORT_OK;
    s->job.threads = a->threads ? a->threads : (int)asked->run.threads;
    if (s->job.threads == 0)
        s->job.threads = p->resumes ? p->threads : 1;
    (void)snprintf(s->threads, sizeof s->threads, "%d", s->job.threads);
    TRY(add_pair(options, "--threads", s->threads));
    for (int i = 0; i < a->sets.count; i++)
        TRY(add_pair(options, "--set", a->sets.items[i]));
    if (asked->run.microbatches == 0 && !p->resumes)
        TRY(set_microbatches(s));
    TRY(add_pair(options, "--device", strcmp(a->device, "auto") == 0 ? NULL : a->device));
    TRY(add_pair(options, "--launcher", strcmp(a->launcher, "auto") == 0 ? NULL : a->launcher));
    (void)snprintf(s->restarts, sizeof s->restarts, "%d", a->max_restarts);
    TRY(add_pair(options, "--max-restarts", a->max_restarts ? s->restarts : NULL));
    TRY(add_pair(options, "--stages", a->chain ? NULL : a->stages));
fail:
    return rc;
}

static int find_places(struct submission *s)
{
    ssize_t length = readlink("/proc/self/exe", s->retort, sizeof s->retort - 1);
    s->retort[length > 0 ? length : 0] = '\0';
    if (length <= 0 || !getcwd(s->work_folder, sizeof s->work_folder))
        return FAIL(RETORT_FAILED, "cannot find the command or the folder it was started in");
    int rc = path_join(s->copy, s->folder, "job.yaml");
    return rc == RETORT_OK ? path_join(s->script, s->folder, "job.sbatch") : rc;
}

static int prepare(struct submission *s, const char *recipe)
{
    static struct run_plan plan; // large
    static struct recipe asked;
    struct arguments *a = &s->a;
    int rc = RETORT_OK;
    TRY(parse_nodes(&s->most_nodes, a->nodes));
    if (a->ranks_per_node == 0)
        a->ranks_per_node = a->gpus_per_node ? a->gpus_per_node : 1;
    TRY(run_folder_name(s->folder, a->out, recipe));
    TRY(find_places(s));
    TRY(check_runs(&plan, s, recipe));
    TRY(recipe_load(&asked, recipe));
    for (int i = 0; i < a->sets.count; i++)
        TRY(recipe_set(&asked, a->sets.items[i]));
    TRY(stages_choose(s->chosen, "submit", a->stages, &plan.recipe));
    const char *slash = strrchr(s->folder, '/');
    s->job = (struct job){.name = slash ? slash + 1 : s->folder,
                          .recipe = s->copy,
                          .folder = s->folder,
                          .retort = s->retort,
                          .work_folder = s->work_folder,
                          .nodes = a->nodes,
                          .elastic = strchr(a->nodes, '-') != NULL,
                          .ranks_per_node = a->ranks_per_node,
                          .gpus_per_node = a->gpus_per_node,
                          .time = a->time,
                          .partition = a->partition,
                          .account = a->account,
                          .warn_s = a->warn_s,
                          .modules = a->modules,
                          .sweep = a->array ? &s->sweep : NULL};
    TRY(choose_options(s, &plan, &asked));
fail:
    return rc;
}

static int write_files(const struct submission *s, const char *recipe)
{
    char *text = NULL;
    size_t bytes = 0;
    int rc = RETORT_OK;
    if (s->a.fresh)
        TRY(run_folder_move_aside(s->folder));
    TRY(folder_create(s->folder));
    TRY(file_read(recipe, SIZE_MAX / 2, &text, &bytes));
    TRY(file_write_whole(s->copy, text, bytes));
    free(text);
    text = NULL;
    FILE *memory = open_memstream(&text, &bytes);
    TRY_ELSE(memory, RETORT_MEMORY, "no memory for the job script");
    job_script_write(&s->job, memory);
    TRY_ELSE(fclose(memory) == 0, RETORT_MEMORY, "no memory for the job script");
    TRY(file_write_whole(s->script, text, bytes));
fail:
    free(text);
    return rc;
}

// Submits the script, for one stage where `stage` is not NULL, after the job `before`, if any,
// which becomes this one.
static int submit_job(const struct submission *s, char before[JOB_ID], const char *stage)
{
    char dependency[JOB_ID + 32];
    const char *words[SBATCH_WORDS + 1] = {"sbatch", "--parsable"};
    int count = 2, rc = RETORT_OK;
    if (before[0]) {
        (void)snprintf(dependency, sizeof dependency, "--dependency=%s:%s",
                       s->a.array ? "aftercorr" : "afterok", before);
        words[count++] = dependency;
        words[count++] = "--kill-on-invalid-dep=yes";
    }
    for (int i = 0; s->more[i]; i++) {
        if (count == SBATCH_WORDS - 3)
            return FAIL(RETORT_USAGE, "submit: too many words after --");
        words[count++] = s->more[i];
    }
    words[count++] = s->script;
    if (stage) {
        words[count++] = "--stages";
        words[count++] = stage;
    }
    if (s->a.dry_run) {
        shell_line(stdout, words);
        (void)snprintf(before, JOB_ID, "JOB");
        return RETORT_OK;
    }
    rc = sbatch_submit(before, words);
    if (rc == RETORT_OK)
        log_info("job %s: %s%s%s", before, s->folder, stage ? ", " : "", stage ? stage : "");
    return rc;
}

static int submit_jobs(const struct submission *s)
{
    char job[JOB_ID] = "";
    int rc = RETORT_OK;
    if (!s->a.chain)
        return submit_job(s, job, NULL);
    for (int stage = 0; stage < STAGE_COUNT; stage++)
        if (s->chosen[stage])
            TRY(submit_job(s, job, stage_name((enum stage)stage)));
fail:
    return rc;
}

// What stands after "--" is sbatch's. Returns where it starts; argc ends before the dashes.
static char **cut_at_dashes(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--") != 0)
            continue;
        *argc = i;
        return argv + i + 1;
    }
    return argv + *argc;
}

int submit_main(int argc, char **argv)
{
    static struct submission s = {
        .a = {.nodes = "1", .warn_s = 180, .device = "auto", .launcher = "auto"}};
    bool helped;
    int first, rc;
    s.more = cut_at_dashes(&argc, argv);
    TRY(parse(&s.a, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    TRY(prepare(&s, argv[first]));
    if (s.a.dry_run)
        job_script_write(&s.job, stdout);
    else
        TRY(write_files(&s, argv[first]));
    TRY(submit_jobs(&s));
    if (!s.a.dry_run)
        log_info("\"retort status %s\" follows it; the log is %s/slurm-*.log", s.folder, s.folder);
fail:
    return rc;
}
