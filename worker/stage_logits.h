#pragma once
// Stage logits: the teacher's logits for every view of every training picture, and the student's
// use of them (Shen & Xing 2021 call it a fast knowledge distillation label store).

#include "worker/rank.h"
#include "worker/views.h"

// The teacher on this rank, forward only.
struct teacher {
    struct graph *graph;     // owned
    struct network *network; // owned
    struct input *input;     // owned
    void *arena;             // owned, engine memory
    char checksum[33];       // of the arena that is used (raw or EMA)
};

// Collective. Loads the finished teacher of the run folder, or teacher.from.
int teacher_open(struct teacher *t, struct rank *rank);
void teacher_close(struct teacher *t, struct rank *rank);

// Collective. Computes and stores logits unless a fitting store is there.
int stage_logits(struct rank *rank);

// Collective. Opens the store the student will use, refuses or accepts it as promise 7 says, and
// recomputes at least 256 rows over all views. `store` is open on every rank afterwards.
int logits_open_verified(struct logit_store *store, struct rank *rank, const struct teacher *t);
