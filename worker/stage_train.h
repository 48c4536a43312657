#pragma once
// The stages that train a network: teacher, baseline, student.

#include "worker/rank.h"
#include "worker/views.h"

// Collective. Trains the stage's network from where its folder stands to the end of its epochs.
// `views` holds the teacher's logits for the student, else NULL; `teacher` is the checksum of that
// teacher's weights or "".
// RETORT_STOPPED after a checkpoint when asked to stop.
int stage_train(struct rank *rank, enum stage stage, struct views *views, const char *teacher);
