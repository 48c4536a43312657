#include "worker/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "worker/event_files.h"

struct metrics {
    FILE *lines; // owned; NULL where nothing is written
    char lines_path[PATH_CAPACITY], summary_path[PATH_CAPACITY];
    struct event_files *events; // owned; NULL where there are none
    json_t *summary;            // owned
    bool summary_changed;       // since it was read or written
    double opened_s, earlier_s; // when this start began; what the starts before it took
};

int metrics_create(struct metrics **out, const char *folder, int is_first)
{
    int rc = RETORT_OK;
    struct metrics *m = calloc(1, sizeof *m);
    if (!m)
        return FAIL(RETORT_MEMORY, "no memory for the metrics");
    if (is_first) {
        TRY(path_join(m->lines_path, folder, "metrics.jsonl"));
        TRY(path_join(m->summary_path, folder, "summary.json"));
        m->lines = fopen(m->lines_path, "a");
        TRY_ELSE(m->lines, RETORT_WRITE, "cannot write %s: %s", m->lines_path, strerror(errno));
        m->events = event_files_create(folder);
        m->summary = json_load_file(m->summary_path, 0, NULL);
        if (!m->summary)
            m->summary = json_object();
        m->opened_s = clock_seconds();
        m->earlier_s = json_number_value(json_object_get(m->summary, "seconds"));
    }
    *out = m;
    return RETORT_OK;
fail:
    metrics_destroy(&m);
    return rc;
}

void metrics_destroy(struct metrics **p)
{
    struct metrics *m = *p;
    if (!m)
        return;
    if (m->lines)
        (void)fclose(m->lines);
    event_files_destroy(&m->events);
    json_decref(m->summary);
    free(m);
    *p = NULL;
}

static int cannot_write(const struct metrics *m)
{
    return FAIL(RETORT_WRITE, "cannot write %s: %s; free some space and run again", m->lines_path,
                strerror(errno));
}

static bool is_known(const char *line, const char *stage, int64_t step, bool epoch_ended)
{
    json_t *j = json_loads(line, 0, NULL); // NULL for half a line
    const char *of = json_string_value(json_object_get(j, "stage"));
    const char *event = json_string_value(json_object_get(j, "event"));
    int64_t at = json_integer_value(json_object_get(j, "step"));
    bool known = json_is_object(j);
    if (known && of && strcmp(of, stage) == 0)
        known = at < step || (at == step && (epoch_ended || !event || strcmp(event, "epoch") != 0));
    json_decref(j);
    return known;
}

// Moves the lines that stay to the front of `text`; returns their length.
static size_t keep_known(char *text, size_t bytes, const char *stage, int64_t step,
                         bool epoch_ended)
{
    size_t kept = 0;
    for (char *line = text; line < text + bytes;) {
        char *end = memchr(line, '\n', (size_t)(text + bytes - line));
        if (!end)
            break; // half a line
        *end = '\0';
        bool known = is_known(line, stage, step, epoch_ended);
        *end = '\n';
        size_t length = (size_t)(end + 1 - line);
        if (known) {
            memmove(text + kept, line, length);
            kept += length;
        }
        line = end + 1;
    }
    return kept;
}

int metrics_forget(struct metrics *m, const char *stage, int64_t step, bool epoch_ended)
{
    enum { LIMIT = 1 << 30 };
    char *text = NULL;
    size_t bytes = 0, kept;
    int rc = RETORT_OK;
    if (!m->lines)
        return RETORT_OK;
    event_files_resume(m->events, stage, step + 1);
    TRY(file_read(m->lines_path, LIMIT, &text, &bytes));
    kept = keep_known(text, bytes, stage, step, epoch_ended);
    if (kept < bytes) {
        TRY(file_write_whole(m->lines_path, text, kept));
        m->lines = freopen(m->lines_path, "a", m->lines);
        TRY_ELSE(m->lines, RETORT_WRITE, "cannot write %s: %s", m->lines_path, strerror(errno));
    }
fail:
    free(text);
    return rc;
}

int metrics_flush(struct metrics *m)
{
    if (m->lines && (fflush(m->lines) != 0 || fdatasync(fileno(m->lines)) != 0))
        return cannot_write(m);
    event_files_flush(m->events);
    return RETORT_OK;
}

int metrics_line(struct metrics *m, json_t *line)
{
    int rc = RETORT_OK;
    if (m->lines) {
        int bad = json_dumpf(line, m->lines, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0;
        bad |= fputc('\n', m->lines) == EOF;
        bad |= fflush(m->lines) != 0;
        if (bad)
            rc = cannot_write(m);
        else
            event_files_add(m->events, line);
    }
    json_decref(line);
    return rc;
}

void summary_set(struct metrics *m, const char *key, json_t *value)
{
    if (!m->lines) {
        json_decref(value);
        return;
    }
    json_object_set_new(m->summary, key, value);
    m->summary_changed = true;
}

int summary_write(struct metrics *m)
{
    if (!m->summary_changed)
        return RETORT_OK;
    char *text = json_dumps(m->summary, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text)
        return FAIL(RETORT_MEMORY, "no memory for %s", m->summary_path);
    int rc = file_write_whole(m->summary_path, text, strlen(text));
    m->summary_changed = rc != RETORT_OK;
    free(text);
    return rc;
}

const json_t *summary_get(const struct metrics *m, const char *key)
{
    return json_object_get(m->summary, key);
}

int summary_clock(struct metrics *m)
{
    summary_set(m, "seconds", json_real(m->earlier_s + clock_seconds() - m->opened_s));
    return summary_write(m);
}
