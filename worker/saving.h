#pragma once
// A trainer's checkpoints: saving, resuming, and the results that travel with them.

#include "worker/trainer.h"

// Where a stage stands: what a checkpoint holds beside the arenas.
struct progress_state {
    int64_t epoch, epoch_step; // next step to make
    bool finished;             // all epochs trained and evaluated
    double best_top1;
    int64_t best_step;
    double seconds, samples; // trained so far in this stage
    char teacher[33];        // checksum of the teacher whose logits are used, or ""
    json_t *results;         // owned: {"raw":{top1,top5,loss},"ema":{…}} of the last evaluation
};
void progress_state_free(struct progress_state *s);

// Collective. Writes ckpt-<step>.h5 and last.h5 (best.h5 too when `is_best`).
int trainer_save(struct trainer *t, const struct progress_state *s, bool is_best);
// Collective. Goes on from the newest whole checkpoint of the stage's folder; *found says whether
// there is one. metrics.jsonl forgets what came after it.
int trainer_resume(struct trainer *t, struct progress_state *s, bool *found);
// Not collective. RETORT_INPUT when `began`, the checksum in a student's checkpoint, is of another
// teacher than `teacher`.
int student_check_teacher(const struct rank *rank, const char *began, const char *teacher);
// The same of the run folder's student, if it has made a step.
int student_check_saved(const struct rank *rank, const char *teacher);
// This rank's epoch sums to those of all ranks, added in rank order. Collective.
int trainer_sum_epoch(struct trainer *t, struct epoch_sums *all);
