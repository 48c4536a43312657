#include "launcher/run_facts.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/recipe.h"
#include "comm/rank_state.h"
#include "comm/watchdog.h"
#include "launcher/owner.h"

enum { METRICS_LIMIT = 1 << 30, TEXT = 512, RANKS_SHOWN = 64 };

json_t *run_metrics(const char *folder)
{
    char path[PATH_CAPACITY], *text = NULL;
    size_t bytes;
    json_t *lines = json_array();
    if (path_join(path, folder, "metrics.jsonl") != RETORT_OK || !file_exists(path) ||
        file_read(path, METRICS_LIMIT, &text, &bytes) != RETORT_OK)
        return lines;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        json_t *one = json_loads(line, 0, NULL);
        if (json_is_object(one))
            json_array_append(lines, one);
        json_decref(one);
    }
    free(text);
    return lines;
}

static void put_owner(json_t *facts, const char *folder)
{
    struct owner owner;
    bool known = owner_read(&owner, folder), alive = known && owner_is_alive(&owner);
    json_object_set_new(facts, "state",
                        json_string(alive   ? "running"
                                    : known ? "dead"
                                            : "stopped"));
    if (!alive)
        return;
    json_object_set_new(facts, "host", json_string(owner.host));
    json_object_set_new(facts, "pid", json_integer(owner.pid));
    if (owner.job[0])
        json_object_set_new(facts, "job", json_string(owner.job));
    json_object_set_new(facts, "running_s", json_real((double)(time(NULL) - owner.started)));
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static const char *event_of(const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    return event ? event : "";
}

// The newest value of each member in the lines of the stage that was trained last.
static json_t *last_of_trained(const json_t *lines)
{
    json_t *merged = json_object(), *line;
    size_t i;
    json_array_foreach(lines, i, line)
    {
        const char *stage = json_string_value(json_object_get(line, "stage"));
        const char *before = json_string_value(json_object_get(merged, "stage"));
        if (stage && before && strcmp(stage, before) != 0)
            json_object_clear(merged);
        if (stage)
            json_object_update(merged, line);
        if (strcmp(event_of(line), "epoch") == 0) // runs before it was recorded
            json_object_set_new(merged, "steps_known",
                                json_real(number(line, "step") / (number(line, "epoch") + 1)));
    }
    return merged;
}

// What rank 0 of a living run is at, such as "logits view 2/4"; false between stages, and when
// nothing lives.
static bool read_stage(struct rank_state *s, enum stage *stage, const json_t *facts,
                       const char *folder)
{
    char ranks[PATH_CAPACITY];
    if (!json_object_get(facts, "pid") || path_join(ranks, folder, "ranks") != RETORT_OK ||
        state_read(s, ranks, 0) != RETORT_OK)
        return false;
    for (int i = 0; i < STAGE_COUNT; i++) {
        *stage = (enum stage)i;
        if (strncmp(s->phase, stage_name(*stage), strlen(stage_name(*stage))) == 0)
            return true;
    }
    return false;
}

// The logit pass leaves no lines: the phase names the view, and summary.json has the speed of those
// that are made.
static void put_logits(json_t *facts, const struct rank_state *s, const struct recipe *r,
                       const json_t *summary)
{
    const json_t *made = json_object_get(summary, "logits");
    const char *number_at = s->phase + strcspn(s->phase, "0123456789");
    json_int_t view = strtoll(number_at, NULL, 10) - 1; // from 0 in files
    double view_s = number(made, "seconds") / number(made, "views");
    json_object_set_new(facts, "stage", json_string(stage_name(STAGE_LOGITS)));
    json_object_set_new(facts, "view", json_integer(view));
    json_object_set_new(facts, "views", json_integer(r->logits.views));
    if (view_s > 0) {
        json_object_set(facts, "images_per_s", json_object_get(made, "images_per_s"));
        json_object_set_new(facts, "time_left_s",
                            json_real((double)(r->logits.views - view) * view_s));
    }
}

static void put_trained(json_t *facts, const json_t *last, const struct recipe *r)
{
    static const char *const keys[] = {"stage",        "epoch", "step", "loss",
                                       "images_per_s", "top1",  "top5", "ema_top1"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (json_object_get(last, keys[i]))
            json_object_set(facts, keys[i], json_object_get(last, keys[i]));
    const char *stage = json_string_value(json_object_get(last, "stage"));
    double a_step = number(last, "epoch_steps"), speed = number(last, "images_per_s");
    if (isnan(a_step))
        a_step = number(last, "steps_known");
    if (!stage)
        return;
    const struct network_recipe *t = strcmp(stage, "teacher") == 0 ? &r->teacher : &r->student;
    double steps = (double)t->epochs * a_step;
    json_object_set_new(facts, "epochs", json_integer(t->epochs));
    if (!isnan(steps))
        json_object_set_new(facts, "steps", json_integer((json_int_t)steps));
    if (!isnan(steps) && speed > 0)
        json_object_set_new(facts, "time_left_s",
                            json_real((steps - number(last, "step")) * (double)t->batch / speed));
}

// Of the stage under way; its lines come a while after it has begun.
static void put_progress(json_t *facts, const char *folder, const json_t *lines,
                         const struct recipe *r, const json_t *summary)
{
    struct rank_state s;
    enum stage now;
    bool known = read_stage(&s, &now, facts, folder);
    json_t *last = last_of_trained(lines);
    const char *trained = json_string_value(json_object_get(last, "stage"));
    if (known && now != STAGE_LOGITS && trained && strcmp(trained, stage_name(now)) != 0) {
        json_object_clear(last);
        json_object_set_new(last, "stage", json_string(stage_name(now)));
    }
    if (known && now == STAGE_LOGITS)
        put_logits(facts, &s, r, summary);
    else
        put_trained(facts, last, r);
    json_decref(last);
}

// Restarts are counted over all starts; Slurm counts its own.
static void put_restarts(json_t *facts, const json_t *lines)
{
    json_int_t restarts = 0, requeues = 0;
    json_t *line;
    size_t i;
    json_array_foreach(lines, i, line)
    {
        if (strcmp(event_of(line), "requeue") == 0)
            requeues++;
        if (strcmp(event_of(line), "restart") != 0)
            continue;
        restarts++;
        json_object_set_new(facts, "last_restart",
                            json_pack("{s:O?, s:O?, s:O?}", "phase", json_object_get(line, "phase"),
                                      "step", json_object_get(line, "step"), "cause",
                                      json_object_get(line, "cause")));
    }
    json_object_set_new(facts, "restarts", json_integer(restarts));
    json_object_set_new(facts, "requeues", json_integer(requeues));
}

// The newest checkpoint of all stages and its age.
static void put_checkpoint(json_t *facts, const char *folder)
{
    char pattern[PATH_CAPACITY], newest[PATH_CAPACITY] = "";
    struct stat info;
    time_t when = 0;
    glob_t found;
    if (path_join(pattern, folder, "*/ckpt-*.h5") != RETORT_OK ||
        glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (stat(found.gl_pathv[i], &info) != 0 || info.st_mtime < when)
            continue;
        when = info.st_mtime;
        snprintf(newest, sizeof newest, "%s", found.gl_pathv[i]);
    }
    globfree(&found);
    if (newest[0])
        json_object_set_new(
            facts, "checkpoint",
            json_pack("{s:s, s:f}", "path", newest, "age_s", (double)(time(NULL) - when)));
}

static void put_ranks(json_t *facts, const char *folder)
{
    char ranks[PATH_CAPACITY], path[PATH_CAPACITY], name[32], line[TEXT];
    if (!json_object_get(facts, "pid") || path_join(ranks, folder, "ranks") != RETORT_OK)
        return;
    json_t *list = json_array();
    for (int rank = 0; rank < RANKS_SHOWN; rank++) {
        snprintf(name, sizeof name, "%d.state", rank);
        if (path_join(path, ranks, name) != RETORT_OK || !file_exists(path) ||
            watchdog_describe(ranks, rank, line, sizeof line) != RETORT_OK)
            break;
        json_array_append_new(list, json_string(line));
    }
    json_object_set_new(facts, "ranks", list);
}

// A stage that stands in the summary has ended. Stages whose result the recipe names are not run.
static void put_results(json_t *facts, json_t *summary, const struct recipe *r)
{
    bool done = true;
    for (int s = 0; s < STAGE_COUNT; s++) {
        bool given =
            (s == STAGE_TEACHER && r->teacher.from[0]) || (s == STAGE_LOGITS && r->logits.path[0]);
        if (r->run.stages[s] && !given && !json_object_get(summary, stage_name((enum stage)s)))
            done = false;
    }
    const json_t *views = json_object_get(json_object_get(summary, "logits"), "views");
    if (r->run.stages[STAGE_LOGITS] && views && json_integer_value(views) < r->logits.views)
        done = false;
    json_object_set_new(facts, "done", json_boolean(done));
    if (summary)
        json_object_set(facts, "results", summary);
}

int run_facts(json_t **out, const char *folder)
{
    static struct recipe recipe; // large
    char path[PATH_CAPACITY];
    int rc = path_join(path, folder, "recipe.yaml");
    if (rc != RETORT_OK)
        return rc;
    if (!file_exists(path))
        return FAIL(RETORT_INPUT, "%s is no run folder: it has no recipe.yaml", folder);
    rc = recipe_load(&recipe, path);
    if (rc == RETORT_OK)
        rc = path_join(path, folder, "summary.json");
    if (rc != RETORT_OK)
        return rc;
    json_t *lines = run_metrics(folder), *summary = json_load_file(path, 0, NULL);
    *out = json_pack("{s:s}", "folder", folder);
    put_owner(*out, folder);
    put_progress(*out, folder, lines, &recipe, summary);
    put_restarts(*out, lines);
    put_checkpoint(*out, folder);
    put_results(*out, summary, &recipe);
    put_ranks(*out, folder);
    json_decref(summary);
    json_decref(lines);
    return RETORT_OK;
}
