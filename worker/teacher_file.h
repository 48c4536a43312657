#pragma once
// Where a teacher's weights come from.

#include "models/engine.h"
#include "worker/rank.h"

// teacher.from, or the run's finished teacher/last.h5, into out[PATH_CAPACITY].
int teacher_path(char *out, const struct rank *rank);
// Reads the teacher (teacher.from, or the run's finished teacher/last.h5) into `arena` (engine
// memory, [graph total]): raw or EMA weights as logits.weights says. Fills its checksum,
// the plan it was trained with (the caller's to free; NULL when it has none), and how it reads
// pictures. Not collective.
int teacher_file_read(struct rank *rank, const struct graph *graph, void *arena, char checksum[33],
                      char **plan, struct picture_format *format);
