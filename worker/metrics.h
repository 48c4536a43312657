#pragma once
// metrics.jsonl and summary.json of a run folder. Rank 0 writes; elsewhere every call does nothing.
//
// metrics.jsonl is append-only while a run lives, and cut back to a checkpoint's length when it
// resumes, so that no line stands twice.

#include <jansson.h>
#include <stdint.h>

struct metrics; // opaque

int metrics_create(struct metrics **out, const char *folder, int is_first);
void metrics_destroy(struct metrics **p); // takes NULL
// Cuts the file back to `bytes` (flushed): what was written after the checkpoint never happened.
int metrics_cut(struct metrics *m, int64_t bytes);
// Bytes written so far, flushed to disk: part of a checkpoint.
int64_t metrics_bytes(struct metrics *m);
// Appends one line; takes the reference.
int metrics_line(struct metrics *m, json_t *line);

// summary.json: sets one member (takes the reference) and rewrites the file whole.
int summary_set(struct metrics *m, const char *key, json_t *value);
