#pragma once
// The teacher's logits a student trains against: the current view and, in pieces, the next one.
//
// Rank 0 reads the store and broadcasts; every rank holds all samples of two views in engine memory
// (N × classes × 2 bytes each).

#include "data/logits.h"
#include "worker/rank.h"

struct views; // opaque

// Collective. `store` is rank 0's (NULL elsewhere), borrowed.
int views_create(struct views **out, struct rank *rank, const struct logit_store *store,
                 int64_t view_count);
void views_destroy(struct views **p); // takes NULL
// Collective. Makes `view` current: what progress has not brought yet is brought now.
int views_begin(struct views *v, int64_t view);
// Collective, between steps: brings the next piece of `next`, of `pieces` in all.
int views_progress(struct views *v, int64_t next, int64_t pieces);
// f16 [samples, classes], engine memory; changes with views_begin.
const uint16_t *views_current(const struct views *v);
size_t views_memory(const struct views *v); // bytes
