#include "launcher/result.h"

#include <jansson.h>
#include <stdio.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

static const struct {
    const char *key, *name;
} SYSTEMS[] = {
    {"teacher", "teacher"},          {"teacher_ema", "teacher, EMA"},   {"logits", "logits"},
    {"baseline", "baseline"},        {"baseline_ema", "baseline, EMA"}, {"student", "student"},
    {"student_ema", "student, EMA"},
};

// One cell, `scale` times the member and right-aligned; a dash where there is none.
static void put_cell(char *out, size_t out_bytes, const json_t *system, const char *key,
                     double scale, int width, int digits)
{
    const json_t *value = json_object_get(system, key);
    if (json_is_number(value))
        snprintf(out, out_bytes, "%*.*f", width, digits, scale * json_number_value(value));
    else
        snprintf(out, out_bytes, "%*s", width, "-");
}

static void print_system(const char *name, const json_t *system)
{
    char top1[32], top5[32], loss[32], best[32], speed[32], time[32] = "-";
    put_cell(top1, sizeof top1, system, "top1", 100, 7, 2);
    put_cell(top5, sizeof top5, system, "top5", 100, 7, 2);
    put_cell(loss, sizeof loss, system, "loss", 1, 7, 3);
    put_cell(best, sizeof best, system, "best_top1", 100, 10, 2);
    put_cell(speed, sizeof speed, system, "images_per_s", 1, 8, 0);
    const json_t *seconds = json_object_get(system, "seconds");
    if (json_is_number(seconds))
        format_duration(json_number_value(seconds), time, sizeof time);
    log_info("%-14s %s %s %s %s %s  %s", name, top1, top5, loss, best, speed, time);
}

static void print_machine(const json_t *root)
{
    const char *device = json_string_value(json_object_get(root, "device"));
    const char *processor = json_string_value(json_object_get(root, "processor"));
    const char *precision = json_string_value(json_object_get(root, "precision"));
    if (!device || !precision)
        return;
    long long ranks = json_integer_value(json_object_get(root, "ranks"));
    long long threads = json_integer_value(json_object_get(root, "threads"));
    log_info("%lld rank%s of %lld thread%s, %s, %s, %s", ranks, ranks == 1 ? "" : "s", threads,
             threads == 1 ? "" : "s", device, precision,
             processor ? processor : "unknown processor");
}

int result_print(const char *folder)
{
    char path[PATH_CAPACITY];
    json_error_t why;
    int rc = path_join(path, folder, "summary.json");
    if (rc != RETORT_OK)
        return rc;
    if (!file_exists(path)) { // no stage that is measured has ended yet
        log_info("run folder: %s", folder);
        return RETORT_OK;
    }
    json_t *root = json_load_file(path, 0, &why);
    if (!root)
        return FAIL(RETORT_INPUT, "cannot read %s: %s", path, why.text);
    log_info(" ");
    log_info("%-14s %7s %7s %7s %10s %8s  %s", "", "top-1 %", "top-5 %", "loss", "best top-1",
             "images/s", "time");
    for (size_t i = 0; i < sizeof SYSTEMS / sizeof SYSTEMS[0]; i++) {
        const json_t *system = json_object_get(root, SYSTEMS[i].key);
        if (json_is_object(system))
            print_system(SYSTEMS[i].name, system);
    }
    print_machine(root);
    log_info("run folder: %s", folder);
    json_decref(root);
    return RETORT_OK;
}
