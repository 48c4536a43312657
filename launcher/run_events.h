#pragma once
// Lines that the launcher adds to metrics.jsonl while no rank lives: a restart, a requeued job.

#include <jansson.h>

// Appends one line; takes the reference. One that cannot be written is no reason to end a run.
void run_events_add(const char *run_folder, json_t *line);
