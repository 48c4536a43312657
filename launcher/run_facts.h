#pragma once
// What the files of a run folder say of its run: for `status`, `report` and the table of a sweep.

#include <jansson.h>

// The lines of metrics.jsonl, an array of objects in the file's order; the caller's reference.
// Empty when there are none; what is no line, such as half of one, is left out.
json_t *run_metrics(const char *folder);

// RETORT_INPUT with one line when `folder` is no run folder, else *out is the caller's reference to
// an object. What is not known is not there:
//   folder; state: running, stopped or dead (its launcher is); done: all stages are
//   host, pid, job, running_s: of a living owner
//   stage, epoch (from 0), epochs, step, steps (of the stage), loss, images_per_s, time_left_s (of
//   the stage); in the logit pass view (from 0) and views in place of epochs and steps
//   top1, top5, ema_top1: of the stage's last epoch; accuracies are fractions
//   checkpoint: {path, age_s}; restarts, requeues, last_restart: {phase, step, cause}
//   ranks: ["rank 0 on node7 (pid 12): …"] while it runs; results: summary.json
int run_facts(json_t **out, const char *folder);
