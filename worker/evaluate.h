#pragma once
// Evaluation of a split: every sample once, the same counts on any number of ranks.
//
// Ranks take whole blocks of 128 consecutive rows; the last block is padded and its padding not
// counted; losses are added in block order.

#include "worker/trainer.h"

struct evaluation {
    int64_t count, top1_count, top5_count;
    double loss; // mean cross-entropy
    double seconds;
};

// Collective. `evaluator` (forward only, DATASET_BLOCK samples) with the weights of an arena, on a
// shard in file order; `labels` of the split in engine memory.
int evaluate(struct evaluation *out, struct rank *rank, struct shard *shard,
             struct network *evaluator, struct input *input, const void *arena);
// {"top1":…,"top5":…,"loss":…}
json_t *evaluation_json(const struct evaluation *e);
