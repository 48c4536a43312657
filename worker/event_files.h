#pragma once
// tensorboard/ of a run folder: the numbers of metrics.jsonl as TensorBoard's event files, a folder
// a stage, which it shows as runs of their own. Rank 0 has one of these.
//
// They are a convenience: what goes wrong is warned of once, and the run goes on without. A start
// appends to no file of an earlier one but makes the next, which says from which step on the
// earlier ones are void: a TensorBoard that looks on finds its way, and half a record at the end of
// a killed start's file spoils nothing.

#include <jansson.h>
#include <stdint.h>

struct event_files; // opaque

// `folder` is the run's. NULL, after a warning, when there is no memory: every call takes it.
struct event_files *event_files_create(const char *folder);
void event_files_destroy(struct event_files **p); // takes NULL
// From here on of `stage`, whose steps from `step` on are void. Its file is made with its first
// numbers.
void event_files_resume(struct event_files *e, const char *stage, int64_t step);
// The numbers of a line of metrics.jsonl, where it has any for TensorBoard. Borrowed.
void event_files_add(struct event_files *e, const json_t *line);
// What was written so far is on disk.
void event_files_flush(struct event_files *e);
