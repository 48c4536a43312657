#pragma once
// metrics.jsonl, its copy for TensorBoard (event_files.h), and summary.json of a run folder. Rank 0
// writes; elsewhere every call does nothing.
//
// metrics.jsonl is append-only while a run lives. When a stage resumes, what it wrote after its
// checkpoint is forgotten, so that no line stands twice; lines of other stages stay.

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct metrics; // opaque

int metrics_create(struct metrics **out, const char *folder, int is_first);
void metrics_destroy(struct metrics **p); // takes NULL
// Drops the lines of `stage` that a checkpoint at `step` does not know of: those of later steps,
// the epoch's own line of that step unless `epoch_ended`, and halves of lines. A step of -1 (no
// checkpoint) drops all of the stage.
int metrics_forget(struct metrics *m, const char *stage, int64_t step, bool epoch_ended);
// What was written so far is on disk: before a checkpoint that knows of it.
int metrics_flush(struct metrics *m);
// Appends one line; takes the reference.
int metrics_line(struct metrics *m, json_t *line);

// summary.json: sets one member (takes the reference); summary_write brings it to disk.
void summary_set(struct metrics *m, const char *key, json_t *value);
// Its member `key`, borrowed, or NULL.
const json_t *summary_get(const struct metrics *m, const char *key);
// Rewrites the file whole, if a member has changed.
int summary_write(struct metrics *m);
// `seconds` becomes the time of all starts up to now, as far as each kept its work, and the file is
// written: called with every checkpoint and every finished view.
int summary_clock(struct metrics *m);
