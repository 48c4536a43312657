// retort status: what a run is doing, from its folder alone.

#include <fcntl.h>
#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/watchdog.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/owner.h"

enum { TAIL_BYTES = 65536, TEXT = 512, RANKS_SHOWN = 64 };

static const char ABOUT[] = "What a run is doing. Without RUN_DIR: every run in runs/.";

// The last bytes of a file as text, the caller's to free(); NULL when there is none.
static char *read_tail(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    off_t bytes = lseek(file, 0, SEEK_END);
    off_t from = bytes > TAIL_BYTES ? bytes - TAIL_BYTES : 0;
    char *text = malloc(TAIL_BYTES + 1);
    ssize_t count = text ? pread(file, text, TAIL_BYTES, from) : -1;
    close(file);
    if (count < 0) {
        free(text);
        return NULL;
    }
    text[count] = '\0';
    return text;
}

// The newest value of every member in the last lines of metrics.jsonl that are of the last stage.
static json_t *last_metrics(const char *folder)
{
    char path[PATH_CAPACITY];
    char *text = path_join(path, folder, "metrics.jsonl") == RETORT_OK ? read_tail(path) : NULL;
    json_t *merged = json_object();
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        json_t *one = json_loads(line, 0, NULL); // a first or last line may be cut
        const char *stage = json_string_value(json_object_get(one, "stage"));
        const char *before = json_string_value(json_object_get(merged, "stage"));
        if (stage && before && strcmp(stage, before) != 0)
            json_object_clear(merged);
        if (json_is_object(one))
            json_object_update(merged, one);
        json_decref(one);
    }
    free(text);
    return merged;
}

static void print_owner(const char *folder)
{
    struct owner owner;
    char age[32];
    if (!owner_read(&owner, folder) || !owner_is_alive(&owner)) {
        log_info("%s: not running%s", folder, owner.pid > 0 ? " (its launcher died)" : "");
        return;
    }
    format_duration((double)(time(NULL) - owner.started), age, sizeof age);
    log_info("%s: running on %s (pid %lld%s%s), for %s", folder, owner.host, (long long)owner.pid,
             owner.job[0] ? ", job " : "", owner.job, age);
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

static void print_metrics(const char *folder)
{
    char progress[TEXT] = "", accuracy[TEXT] = "";
    json_t *last = last_metrics(folder);
    const char *stage = json_string_value(json_object_get(last, "stage"));
    const json_t *epoch = json_object_get(last, "epoch"); // from 0 in files, from 1 for people
    if (json_is_integer(epoch))
        snprintf(progress, sizeof progress, "epoch %lld", (long long)json_integer_value(epoch) + 1);
    add_number(progress, last, "step", "step", 1, 0, "");
    add_number(progress, last, "loss", "loss", 1, 3, "");
    add_number(progress, last, "images_per_s", "images/s", 1, 0, "");
    add_number(accuracy, last, "top1", "top-1", 100, 2, " %");
    add_number(accuracy, last, "top5", "top-5", 100, 2, " %");
    add_number(accuracy, last, "ema_top1", "EMA top-1", 100, 2, " %");
    if (stage)
        log_info("  %-12s%s", stage, progress);
    if (accuracy[0])
        log_info("  %-12s%s", "accuracy", accuracy);
    json_decref(last);
}

// The newest checkpoint of all stages and its age.
static void print_checkpoint(const char *folder)
{
    char pattern[PATH_CAPACITY], newest[PATH_CAPACITY] = "", age[32];
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
    format_duration((double)(time(NULL) - when), age, sizeof age);
    if (newest[0])
        log_info("  %-12s%s, %s ago", "checkpoint", newest, age);
}

static void print_ranks(const char *folder)
{
    char ranks[PATH_CAPACITY], path[PATH_CAPACITY], name[32], line[TEXT];
    struct owner owner;
    if (!owner_read(&owner, folder) || !owner_is_alive(&owner) ||
        path_join(ranks, folder, "ranks") != RETORT_OK)
        return;
    for (int rank = 0; rank < RANKS_SHOWN; rank++) {
        snprintf(name, sizeof name, "%d.state", rank);
        if (path_join(path, ranks, name) != RETORT_OK || !file_exists(path) ||
            watchdog_describe(ranks, rank, line, sizeof line) != RETORT_OK)
            break;
        log_info("  %s", line);
    }
}

static void print_result(const char *folder)
{
    char path[PATH_CAPACITY], text[TEXT] = "";
    static const char *const keys[] = {"teacher",      "teacher_ema", "baseline",
                                       "baseline_ema", "student",     "student_ema"};
    if (path_join(path, folder, "summary.json") != RETORT_OK)
        return;
    json_t *root = json_load_file(path, 0, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        add_number(text, json_object_get(root, keys[i]), "top1", keys[i], 100, 2, " %");
    if (text[0])
        log_info("  %-12s%s", "top-1", text);
    json_decref(root);
}

static int print_run(const char *folder)
{
    char path[PATH_CAPACITY];
    int rc = path_join(path, folder, "recipe.yaml");
    if (rc != RETORT_OK)
        return rc;
    if (!file_exists(path))
        return FAIL(RETORT_INPUT, "%s is no run folder: it has no recipe.yaml", folder);
    print_owner(folder);
    print_metrics(folder);
    print_checkpoint(folder);
    print_result(folder);
    print_ranks(folder);
    return RETORT_OK;
}

static int print_all(void)
{
    glob_t found;
    int rc = RETORT_OK;
    if (glob("runs/*/recipe.yaml", 0, NULL, &found) != 0)
        return FAIL(RETORT_INPUT, "no run in runs/; name a run folder");
    for (size_t i = 0; i < found.gl_pathc && rc == RETORT_OK; i++) {
        *strrchr(found.gl_pathv[i], '/') = '\0';
        rc = print_run(found.gl_pathv[i]);
    }
    globfree(&found);
    return rc;
}

int status_main(int argc, char **argv)
{
    const struct command_options options = {"status", "[RUN_DIR]", ABOUT, NULL, 0, 0, 1};
    bool helped;
    int first, rc = options_parse(&options, argc, argv, &first, &helped);
    if (rc != RETORT_OK || helped)
        return rc;
    return first < argc ? print_run(argv[first]) : print_all();
}
