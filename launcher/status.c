// retort status: what a run is doing, from its folder alone.

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/run_facts.h"

enum { TEXT = 512 };

static const char ABOUT[] =
    "What a run is doing, from the files of its folder alone: any host that sees them may ask.\n"
    "Without RUN_DIR: every run in runs/.";

static void print_state(const json_t *facts)
{
    const char *folder = json_string_value(json_object_get(facts, "folder"));
    const char *state = json_string_value(json_object_get(facts, "state"));
    const char *job = json_string_value(json_object_get(facts, "job"));
    char age[32];
    if (strcmp(state, "running") != 0) {
        log_info("%s: %s%s", folder,
                 json_is_true(json_object_get(facts, "done")) ? "done" : "not running",
                 strcmp(state, "dead") == 0 ? " (its launcher died)" : "");
        return;
    }
    format_duration(json_number_value(json_object_get(facts, "running_s")), age, sizeof age);
    log_info("%s: running on %s (pid %lld%s%s), for %s", folder,
             json_string_value(json_object_get(facts, "host")),
             (long long)json_integer_value(json_object_get(facts, "pid")), job ? ", job " : "",
             job ? job : "", age);
}

static void add_number(char out[TEXT], const json_t *from, const char *key, const char *label,
                       double scale, int digits, const char *unit)
{
    const json_t *value = json_object_get(from, key);
    size_t used = strlen(out);
    if (json_is_number(value))
        snprintf(out + used, TEXT - used, "%s%s %.*f%s", used ? ", " : "", label, digits,
                 scale * json_number_value(value), unit);
}

// " of 8" behind the number before it.
static void add_total(char out[TEXT], const json_t *from, const char *key)
{
    const json_t *value = json_object_get(from, key);
    size_t used = strlen(out);
    if (used && json_is_integer(value))
        snprintf(out + used, TEXT - used, " of %lld", (long long)json_integer_value(value));
}

static void print_progress(const json_t *facts)
{
    char progress[TEXT] = "", accuracy[TEXT] = "", left[32];
    const char *stage = json_string_value(json_object_get(facts, "stage"));
    const json_t *epoch = json_object_get(facts, "epoch"); // from 0 in files, from 1 for people
    const json_t *view = json_object_get(facts, "view");
    const json_t *left_s = json_object_get(facts, "time_left_s");
    if (!stage)
        return;
    if (json_is_integer(epoch))
        snprintf(progress, sizeof progress, "epoch %lld", (long long)json_integer_value(epoch) + 1);
    add_total(progress, facts, "epochs");
    if (json_is_integer(view))
        snprintf(progress, sizeof progress, "view %lld", (long long)json_integer_value(view) + 1);
    add_total(progress, facts, "views");
    add_number(progress, facts, "step", "step", 1, 0, "");
    add_total(progress, facts, "steps");
    add_number(progress, facts, "loss", "loss", 1, 3, "");
    add_number(progress, facts, "images_per_s", "images/s", 1, 0, "");
    log_info("  %-12s%s", stage, progress);
    if (json_is_number(left_s) && json_number_value(left_s) > 0) {
        format_duration(json_number_value(left_s), left, sizeof left);
        log_info("  %-12s%s of the %s", "to go", left, stage);
    }
    add_number(accuracy, facts, "top1", "top-1", 100, 2, " %");
    add_number(accuracy, facts, "top5", "top-5", 100, 2, " %");
    add_number(accuracy, facts, "ema_top1", "EMA top-1", 100, 2, " %");
    if (accuracy[0])
        log_info("  %-12s%s", "accuracy", accuracy);
}

static void print_restarts(const json_t *facts)
{
    char counts[TEXT] = "";
    const json_t *last = json_object_get(facts, "last_restart");
    if (json_integer_value(json_object_get(facts, "restarts")) > 0)
        add_number(counts, facts, "restarts", "after a rank's death:", 1, 0, "");
    if (json_integer_value(json_object_get(facts, "requeues")) > 0)
        add_number(counts, facts, "requeues", "by Slurm:", 1, 0, "");
    if (counts[0])
        log_info("  %-12s%s", "restarts", counts);
    const char *cause = json_string_value(json_object_get(last, "cause"));
    const char *phase = json_string_value(json_object_get(last, "phase"));
    if (cause && phase)
        log_info("  %-12sat %s step %lld: %s", "the last", phase,
                 (long long)json_integer_value(json_object_get(last, "step")), cause);
}

static void print_checkpoint(const json_t *facts)
{
    const json_t *checkpoint = json_object_get(facts, "checkpoint");
    char age[32];
    if (!checkpoint)
        return;
    format_duration(json_number_value(json_object_get(checkpoint, "age_s")), age, sizeof age);
    log_info("  %-12s%s, %s ago", "checkpoint",
             json_string_value(json_object_get(checkpoint, "path")), age);
}

static void print_results(const json_t *facts)
{
    char text[TEXT] = "";
    static const char *const keys[] = {"teacher",      "teacher_ema", "baseline",
                                       "baseline_ema", "student",     "student_ema"};
    const json_t *results = json_object_get(facts, "results");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        add_number(text, json_object_get(results, keys[i]), "top1", keys[i], 100, 2, " %");
    if (text[0])
        log_info("  %-12s%s", "top-1", text);
}

static void print_run(const json_t *facts)
{
    const json_t *ranks = json_object_get(facts, "ranks"), *line;
    size_t i;
    print_state(facts);
    print_progress(facts);
    print_restarts(facts);
    print_checkpoint(facts);
    print_results(facts);
    json_array_foreach(ranks, i, line)
    {
        log_info("  %s", json_string_value(line));
    }
}

static int print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text)
        return FAIL(RETORT_MEMORY, "no memory for what is known of the runs");
    puts(text);
    free(text);
    return RETORT_OK;
}

static int one_run(const char *folder, bool as_json)
{
    json_t *facts = NULL;
    int rc = run_facts(&facts, folder);
    if (rc == RETORT_OK && as_json)
        rc = print_json(facts);
    else if (rc == RETORT_OK)
        print_run(facts);
    json_decref(facts);
    return rc;
}

static int all_runs(const char *parent, bool as_json)
{
    char pattern[PATH_CAPACITY];
    glob_t found;
    json_t *all = json_array();
    int rc = path_join(pattern, parent, "*/recipe.yaml");
    if (rc == RETORT_OK && glob(pattern, 0, NULL, &found) != 0)
        rc = FAIL(RETORT_INPUT, "no run in %s/; name a run folder", parent);
    else if (rc == RETORT_OK) {
        for (size_t i = 0; i < found.gl_pathc && rc == RETORT_OK; i++) {
            json_t *facts = NULL;
            *strrchr(found.gl_pathv[i], '/') = '\0';
            rc = run_facts(&facts, found.gl_pathv[i]);
            if (rc == RETORT_OK && !as_json)
                print_run(facts);
            json_array_append_new(all, facts);
        }
        globfree(&found);
    }
    if (rc == RETORT_OK && as_json)
        rc = print_json(all);
    json_decref(all);
    return rc;
}

int status_main(int argc, char **argv)
{
    const char *all = NULL;
    bool as_json = false, helped;
    const struct option_row rows[] = {
        {"all", OPTION_TEXT, "DIR", &all, "every run in DIR (default: runs)", 0, 0},
        {"json", OPTION_FLAG, NULL, &as_json, "as JSON, for programs", 0, 0},
    };
    const struct command_options options = {
        "status", "[RUN_DIR]", ABOUT, rows, sizeof rows / sizeof rows[0], 0, 1};
    int first, rc = options_parse(&options, argc, argv, &first, &helped);
    if (rc != RETORT_OK || helped)
        return rc;
    if (all && first < argc)
        return FAIL(RETORT_USAGE, "status: either RUN_DIR or --all");
    return first < argc ? one_run(argv[first], as_json) : all_runs(all ? all : "runs", as_json);
}
