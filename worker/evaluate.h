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

// Logits that an evaluation keeps, of this rank's rows of the file (worker/kept_logits.h).
struct kept_logits {
    enum real_type real;
    size_t row_bytes;   // of [classes]; 0 when not open
    char *rows;         // owned, host: [rows of this rank, classes]
    char *all;          // owned, rank 0: a round of all ranks
    struct h5file file; // rank 0: under construction
};

// Collective. `evaluator` (forward only, DATASET_BLOCK samples) with the weights of an arena, on a
// shard in file order; `kept` may be NULL.
int evaluate(struct evaluation *out, struct rank *rank, struct shard *shard,
             struct network *evaluator, struct input *input, const void *arena,
             struct kept_logits *kept);
// {"top1":…,"top5":…,"loss":…}
json_t *evaluation_json(const struct evaluation *e);
