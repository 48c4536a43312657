#include "worker/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

struct metrics {
    FILE *lines; // owned; NULL where nothing is written
    char lines_path[PATH_CAPACITY], summary_path[PATH_CAPACITY];
    json_t *summary; // owned
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
        m->summary = json_load_file(m->summary_path, 0, NULL);
        if (!m->summary)
            m->summary = json_object();
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
    json_decref(m->summary);
    free(m);
    *p = NULL;
}

int metrics_cut(struct metrics *m, int64_t bytes)
{
    if (!m->lines)
        return RETORT_OK;
    if (fflush(m->lines) != 0)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", m->lines_path, strerror(errno));
    if (file_size(m->lines_path) <= bytes)
        return RETORT_OK;
    if (ftruncate(fileno(m->lines), bytes) != 0)
        return FAIL(RETORT_WRITE, "cannot cut %s back: %s", m->lines_path, strerror(errno));
    return RETORT_OK;
}

int64_t metrics_bytes(struct metrics *m)
{
    if (!m->lines)
        return 0;
    (void)fflush(m->lines);
    (void)fdatasync(fileno(m->lines));
    return file_size(m->lines_path);
}

int metrics_line(struct metrics *m, json_t *line)
{
    int rc = RETORT_OK;
    if (m->lines) {
        int bad = json_dumpf(line, m->lines, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0;
        bad |= fputc('\n', m->lines) == EOF;
        bad |= fflush(m->lines) != 0;
        if (bad)
            rc = FAIL(RETORT_WRITE, "cannot write %s: %s; free some space and run again",
                      m->lines_path, strerror(errno));
    }
    json_decref(line);
    return rc;
}

int summary_set(struct metrics *m, const char *key, json_t *value)
{
    if (!m->lines) {
        json_decref(value);
        return RETORT_OK;
    }
    json_object_set_new(m->summary, key, value);
    char *text = json_dumps(m->summary, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text)
        return FAIL(RETORT_MEMORY, "no memory for %s", m->summary_path);
    int rc = file_write_whole(m->summary_path, text, strlen(text));
    free(text);
    return rc;
}
