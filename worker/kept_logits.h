#pragma once
// Logits of an evaluation on their way from the ranks to one file: `retort eval --logits`.

#include "data/eval_logits.h"
#include "worker/evaluate.h"
#include "worker/network_file.h"

// Collective. Rank 0 starts the file `path` and every rank makes room for its rows of rank->val, so
// that what cannot be kept is known before anything is computed. The file is not there until
// kept_logits_write.
int kept_logits_open(struct kept_logits *k, struct rank *rank, const char *path,
                     const struct network_file *f, enum dataset_split split, bool ema);
// Collective. Brings all ranks' rows to rank 0 and into the file, which is whole then.
int kept_logits_write(struct kept_logits *k, struct rank *rank);
void kept_logits_close(struct kept_logits *k); // takes one that was never opened
