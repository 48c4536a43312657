#include "launcher/run_events.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

// A rank that was killed in the middle of a line leaves half of one.
static bool ends_in_a_line(FILE *file)
{
    return fseek(file, -1, SEEK_END) != 0 || fgetc(file) == '\n';
}

void run_events_add(const char *run_folder, json_t *line)
{
    char path[PATH_CAPACITY];
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    FILE *file =
        path_join(path, run_folder, "metrics.jsonl") == RETORT_OK ? fopen(path, "a+e") : NULL;
    bool written =
        text && file && fprintf(file, "%s%s\n", ends_in_a_line(file) ? "" : "\n", text) > 0;
    if (file)
        written = fclose(file) == 0 && written;
    if (!written)
        log_warn("cannot add a line to %s/metrics.jsonl", run_folder);
    free(text);
    json_decref(line);
}
