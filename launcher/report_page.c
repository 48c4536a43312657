#include "launcher/report_page.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "launcher/chart.h"
#include "launcher/report_curves.h"
#include "launcher/report_settings.h"
#include "launcher/run_facts.h"

static const struct {
    const char *key, *name;
} SYSTEMS[] = {
    {"teacher", "teacher"},   {"teacher_ema", "teacher, EMA"},
    {"baseline", "baseline"}, {"baseline_ema", "baseline, EMA"},
    {"student", "student"},   {"student_ema", "student, EMA"},
};
enum { SYSTEM_COUNT = sizeof SYSTEMS / sizeof SYSTEMS[0] };

static const char STYLE[] =
    ":root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1d1f22;--quiet:#6a6f76;"
    "--grid:#e7e8e9;--line:#dcdedf;--c0:#2f6fb5;--c1:#d9702c;--c2:#3c8d4f;--c3:#8a5fb0;"
    "--c4:#b8434e;--c5:#3a9aa8;--c6:#9a7b22;--c7:#75797f}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#17191c;--card:#1f2226;--ink:#e6e7e8;"
    "--quiet:#9aa0a7;--grid:#30343a;--line:#363b41;--c0:#6da7e6;--c1:#ee9757;--c2:#6cbf80;"
    "--c3:#b593d8;--c4:#e0757f;--c5:#65c3d0;--c6:#cfae50;--c7:#a3a8ae}}\n"
    "body{margin:0 auto;max-width:1180px;padding:28px 24px 60px;background:var(--page);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 12px}"
    "h3{font-size:16px;margin:26px 0 8px}.quiet{color:var(--quiet)}p{margin:4px 0 14px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:16px}\n"
    "svg,.card{background:var(--card);border:1px solid var(--line);border-radius:8px}"
    "svg{width:100%;height:auto;padding:8px 6px 4px;box-sizing:border-box}\n"
    ".card{overflow-x:auto;margin:0 0 14px}table{border-collapse:collapse;width:100%;"
    "font-variant-numeric:tabular-nums}th,td{padding:6px 14px;text-align:right;"
    "white-space:nowrap;border-top:1px solid var(--line)}tr:first-child th{border-top:0;"
    "color:var(--quiet);font-weight:500}th:first-child,td:first-child{text-align:left}\n"
    "td.best{font-weight:650}summary{cursor:pointer;color:var(--quiet);padding:4px 0}"
    "pre{margin:0;padding:12px 16px;font:13px/1.45 ui-monospace,monospace}\n"
    ".curve{stroke-width:2;stroke-linejoin:round}.grid{stroke:var(--grid)}"
    ".tick,.legend{font-size:12px;fill:var(--quiet)}.title{font-size:14px;font-weight:600;"
    "fill:var(--ink)}.dot{display:inline-block;width:10px;height:10px;border-radius:5px;"
    "margin-right:8px}\n";

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static const json_t *system_of(const struct report_run *run, int system)
{
    return json_object_get(json_object_get(run->facts, "results"), SYSTEMS[system].key);
}

// A dash for what is not known.
static void put_cell(FILE *out, double value, double scale, int digits, const char *unit)
{
    if (isnan(value))
        fputs("<td class=\"quiet\">–</td>", out);
    else
        fprintf(out, "<td>%.*f%s</td>", digits, scale * value, unit);
}

static void put_time(FILE *out, double seconds)
{
    char text[32];
    format_duration(seconds, text, sizeof text);
    fprintf(out, "<td>%s</td>", isnan(seconds) ? "–" : text);
}

static void put_words(FILE *out, const char *tag, const char *text)
{
    fprintf(out, "<%s>", tag);
    html_text(out, text);
    fprintf(out, "</%s>", tag);
}

static bool any_has(const struct report_run *runs, int count, int system)
{
    for (int r = 0; r < count; r++)
        if (system_of(&runs[r], system))
            return true;
    return false;
}

static double best_of(const struct report_run *runs, int count, int system)
{
    double best = -1;
    for (int r = 0; r < count; r++)
        best = fmax(best, number(system_of(&runs[r], system), "top1"));
    return best;
}

static void put_accuracy(FILE *out, double top1, bool best)
{
    if (isnan(top1))
        fputs("<td class=\"quiet\">–</td>", out);
    else
        fprintf(out, "<td%s>%.2f %%</td>", best ? " class=\"best\"" : "", 100 * top1);
}

static const char *state_of(const struct report_run *run)
{
    if (strcmp(text_of(run->facts, "state"), "running") == 0)
        return "running";
    return json_is_true(json_object_get(run->facts, "done")) ? "done" : "not done";
}

static void write_comparison(FILE *out, const struct report_run *runs, int count)
{
    fputs("<h2>Top-1 of the validation split</h2>\n<div class=\"card\"><table><tr><th>run</th>",
          out);
    for (int i = 0; i < SYSTEM_COUNT; i++)
        if (any_has(runs, count, i))
            put_words(out, "th", SYSTEMS[i].name);
    fputs("<th>images/s</th><th>time</th><th>ranks</th><th>restarts</th><th></th></tr>\n", out);
    for (int r = 0; r < count; r++) {
        const json_t *results = json_object_get(runs[r].facts, "results");
        fprintf(out, "<tr><td><span class=\"dot\" style=\"background:var(--c%d)\"></span>",
                r % CHART_COLOURS);
        html_text(out, runs[r].name);
        fputs("</td>", out);
        for (int i = 0; i < SYSTEM_COUNT; i++)
            if (any_has(runs, count, i)) {
                double top1 = number(system_of(&runs[r], i), "top1");
                put_accuracy(out, top1, count > 1 && top1 == best_of(runs, count, i));
            }
        put_cell(out, number(results, "images_per_s"), 1, 0, "");
        put_time(out, number(results, "seconds"));
        put_cell(out, number(results, "ranks"), 1, 0, "");
        put_cell(out, number(runs[r].facts, "restarts"), 1, 0, "");
        put_words(out, "td", state_of(&runs[r]));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static bool has_results(const struct report_run *run)
{
    for (int i = 0; i < SYSTEM_COUNT; i++)
        if (system_of(run, i))
            return true;
    return false;
}

static void write_systems(FILE *out, const struct report_run *run)
{
    if (!has_results(run))
        return;
    fputs(
        "<div class=\"card\"><table><tr><th></th><th>top-1</th><th>top-5</th><th>loss</th>"
        "<th>best top-1</th><th>images/s</th><th>time</th></tr>\n",
        out);
    for (int i = 0; i < SYSTEM_COUNT; i++) {
        const json_t *system = system_of(run, i);
        if (!system)
            continue;
        fputs("<tr>", out);
        put_words(out, "td", SYSTEMS[i].name);
        put_cell(out, number(system, "top1"), 100, 2, " %");
        put_cell(out, number(system, "top5"), 100, 2, " %");
        put_cell(out, number(system, "loss"), 1, 3, "");
        put_cell(out, number(system, "best_top1"), 100, 2, " %");
        put_cell(out, number(system, "images_per_s"), 1, 0, "");
        put_time(out, number(system, "seconds"));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static void write_epochs(FILE *out, const struct report_run *run)
{
    json_t *line;
    size_t i;
    fputs(
        "<details><summary>every epoch</summary><div class=\"card\"><table><tr><th>stage</th>"
        "<th>epoch</th><th>training loss</th><th>loss</th><th>top-1</th><th>top-5</th>"
        "<th>EMA loss</th><th>EMA top-1</th><th>images/s</th></tr>\n",
        out);
    json_array_foreach(run->lines, i, line)
    {
        if (strcmp(text_of(line, "event"), "epoch") != 0)
            continue;
        fputs("<tr>", out);
        put_words(out, "td", text_of(line, "stage"));
        put_cell(out, number(line, "epoch") + 1, 1, 0, "");
        put_cell(out, number(line, "loss"), 1, 3, "");
        put_cell(out, number(line, "val_loss"), 1, 3, "");
        put_cell(out, number(line, "top1"), 100, 2, " %");
        put_cell(out, number(line, "top5"), 100, 2, " %");
        put_cell(out, number(line, "ema_loss"), 1, 3, "");
        put_cell(out, number(line, "ema_top1"), 100, 2, " %");
        put_cell(out, number(line, "images_per_s"), 1, 0, "");
        fputs("</tr>\n", out);
    }
    fputs("</table></div></details>\n", out);
}

// Restarts and where the run stands: what a table of results does not say.
static void write_state(FILE *out, const struct report_run *run)
{
    const json_t *f = run->facts, *results = json_object_get(f, "results");
    const json_t *last = json_object_get(f, "last_restart");
    fprintf(out, "<p class=\"quiet\">%s", state_of(run));
    if (strcmp(state_of(run), "done") != 0 && text_of(f, "stage")[0])
        fprintf(out, ": %s, epoch %.0f of %.0f, step %.0f", text_of(f, "stage"),
                number(f, "epoch") + 1, number(f, "epochs"), number(f, "step"));
    if (results && !isnan(number(results, "ranks"))) {
        fprintf(out, "; %.0f × %.0f threads, %s, ", number(results, "ranks"),
                number(results, "threads"), text_of(results, "precision"));
        html_text(out, text_of(results, "processor"));
    }
    if (last) {
        fprintf(out,
                "; restarted %.0f times, the last one at %s step %.0f: ", number(f, "restarts"),
                text_of(last, "phase"), number(last, "step"));
        html_text(out, text_of(last, "cause"));
    }
    fputs("</p>\n", out);
}

static void write_recipe(FILE *out, const struct report_run *run)
{
    enum { LIMIT = 1 << 20 };
    char path[PATH_CAPACITY], *text = NULL;
    size_t bytes;
    if (path_join(path, text_of(run->facts, "folder"), "recipe.yaml") == RETORT_OK &&
        file_read(path, LIMIT, &text, &bytes) == RETORT_OK) {
        fputs(
            "<details><summary>the recipe, every default filled in</summary>"
            "<div class=\"card\"><pre>",
            out);
        html_text(out, text);
        fputs("</pre></div></details>\n", out);
    }
    free(text);
}

static void write_page(FILE *out, const struct report_run *runs, int count)
{
    char date[64] = "";
    time_t now = time(NULL);
    struct tm local;
    if (localtime_r(&now, &local))
        (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M", &local);
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
        "name=\"viewport\" content=\"width=device-width\">\n<title>",
        out);
    html_text(out, count == 1 ? runs[0].name : "Runs compared");
    fprintf(out, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", STYLE);
    put_words(out, "h1", count == 1 ? runs[0].name : "Runs compared");
    fprintf(out, "\n<p class=\"quiet\">%d run%s, as of %s</p>\n", count, count == 1 ? "" : "s",
            date);
    write_comparison(out, runs, count);
    if (count > 1)
        report_settings(out, runs, count);
    report_curves(out, runs, count);
    for (int r = 0; r < count; r++) {
        put_words(out, "h2", count == 1 ? "In numbers" : runs[r].name);
        write_state(out, &runs[r]);
        write_systems(out, &runs[r]);
        write_epochs(out, &runs[r]);
        write_recipe(out, &runs[r]);
    }
    fputs("</body>\n</html>\n", out);
}

// A stage under way has no result yet; its last epoch stands in.
static void add_unfinished(struct report_run *run)
{
    json_t *results = json_object_get(run->facts, "results"), *line;
    char ema[64];
    size_t i;
    if (!results) {
        results = json_object();
        json_object_set_new(run->facts, "results", results);
    }
    json_t *summary = json_copy(results);
    json_array_foreach(run->lines, i, line)
    {
        const char *stage = text_of(line, "stage");
        if (strcmp(text_of(line, "event"), "epoch") != 0 || json_object_get(summary, stage))
            continue;
        json_object_set_new(
            results, stage,
            json_pack("{s:O?, s:O?, s:O?, s:O?}", "top1", json_object_get(line, "top1"), "top5",
                      json_object_get(line, "top5"), "loss", json_object_get(line, "val_loss"),
                      "images_per_s", json_object_get(line, "images_per_s")));
        snprintf(ema, sizeof ema, "%.40s_ema", stage);
        if (json_object_get(line, "ema_top1"))
            json_object_set_new(results, ema,
                                json_pack("{s:O?, s:O?, s:O?}", "top1",
                                          json_object_get(line, "ema_top1"), "top5",
                                          json_object_get(line, "ema_top5"), "loss",
                                          json_object_get(line, "ema_loss")));
    }
    json_decref(summary);
}

int report_page(FILE *out, const char *const *folders, int count)
{
    struct report_run runs[REPORT_RUNS_MAX] = {0};
    int rc = RETORT_OK, opened = 0;
    CHECK(count <= REPORT_RUNS_MAX);
    for (; rc == RETORT_OK && opened < count; opened++) {
        struct report_run *run = &runs[opened];
        rc = run_facts(&run->facts, folders[opened]);
        run->lines = run_metrics(folders[opened]);
        run->name = folders[opened];
        if (rc == RETORT_OK)
            add_unfinished(run);
    }
    if (rc == RETORT_OK)
        write_page(out, runs, count);
    for (int r = 0; r < opened; r++) {
        json_decref(runs[r].facts);
        json_decref(runs[r].lines);
    }
    return rc;
}
