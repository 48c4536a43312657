#include "launcher/report_settings.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "launcher/chart.h"
#include "launcher/report_page.h"

enum { DEPTH = 8, KEY = 256, LIMIT = 1 << 20 };

// "teacher.optimizer.lr" of the key in `line` under the keys of the lines above it, which stand in
// `parents`, by their depth; returns its value, "" for a key that has others below it.
static const char *full_key(char out[KEY], char parents[DEPTH][KEY], char *line)
{
    size_t depth = strspn(line, " ") / 2;
    char *name = line + 2 * depth, *colon = strchr(name, ':');
    if (!colon || depth >= DEPTH)
        return "";
    *colon = '\0';
    snprintf(parents[depth], KEY, "%s", name);
    out[0] = '\0';
    for (size_t d = 0; d <= depth; d++) {
        size_t used = strlen(out);
        snprintf(out + used, KEY - used, "%s%s", d ? "." : "", parents[d]);
    }
    return colon + 1 + strspn(colon + 1, " ");
}

// {"run.seed": "1", …} of a recipe as `run` writes it: a key a line, two blanks a level.
static json_t *settings_of(const char *folder)
{
    char path[PATH_CAPACITY], key[KEY], parents[DEPTH][KEY], *text = NULL;
    size_t bytes;
    json_t *settings = json_object();
    if (path_join(path, folder, "recipe.yaml") != RETORT_OK ||
        file_read(path, LIMIT, &text, &bytes) != RETORT_OK)
        return settings;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        const char *value = full_key(key, parents, line);
        if (*value)
            json_object_set_new(settings, key, json_string(value));
    }
    free(text);
    return settings;
}

static bool differs(json_t *const *settings, int count, const char *key)
{
    const json_t *first = json_object_get(settings[0], key);
    for (int r = 1; r < count; r++)
        if (!json_equal(first, json_object_get(settings[r], key)))
            return true;
    return false;
}

static void write_row(FILE *out, json_t *const *settings, int count, const char *key)
{
    fputs("<tr><td>", out);
    html_text(out, key);
    fputs("</td>", out);
    for (int r = 0; r < count; r++) {
        const char *value = json_string_value(json_object_get(settings[r], key));
        fputs("<td>", out);
        html_text(out, value ? value : "–");
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

static void write_head(FILE *out, const struct report_run *runs, int count)
{
    fputs("<h2>Where their recipes differ</h2>\n<div class=\"card\"><table><tr><th>key</th>", out);
    for (int r = 0; r < count; r++) {
        fputs("<th>", out);
        html_text(out, runs[r].name);
        fputs("</th>", out);
    }
    fputs("</tr>\n", out);
}

void report_settings(FILE *out, const struct report_run *runs, int count)
{
    json_t *settings[REPORT_RUNS_MAX] = {0}, *value;
    const char *key;
    int rows = 0;
    for (int r = 0; r < count; r++)
        settings[r] = settings_of(runs[r].name);
    json_object_foreach(settings[0], key, value)
    {
        if (!differs(settings, count, key))
            continue;
        if (rows++ == 0)
            write_head(out, runs, count);
        write_row(out, settings, count, key);
    }
    if (rows > 0)
        fputs("</table></div>\n", out);
    for (int r = 0; r < count; r++)
        json_decref(settings[r]);
}
