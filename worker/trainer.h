#pragma once
// One network in training on this rank: its arenas, its step, its checkpoints.
//
// All ranks hold the same weights at every step boundary.

#include "data/checkpoint.h"
#include "worker/microbatches.h"
#include "worker/rank.h"

struct views; // worker/views.h

// Sums over the samples of an epoch so far, this rank's own.
struct epoch_sums {
    double sums[LOSS_SUMS];
    double samples; // of all ranks
    double seconds; // in steps
};

struct trainer {
    struct rank *rank; // borrowed
    enum stage stage;
    const struct network_recipe *recipe; // borrowed
    struct graph *graph;                 // owned
    struct network *network;             // owned
    struct network *evaluator;           // owned: forward only, blocks of 128
    struct input *eval_input;            // owned
    struct microbatches microbatches;    // this rank's
    char *plan;                          // owned: the engine's choices, of rank 0
    struct arenas arenas;                // owned; of the own range where sharded
    bool sharded;                        // worker/own_range.h
    struct step_scalars *scalars;        // owned, engine memory
    double *sums;                        // owned, engine memory [LOSS_SUMS]
    int32_t *labels;                     // owned, engine memory [samples of train]
    struct recorded *recorded;           // owned: steps that the engine replays
    struct sampler sampler;
    struct loss_spec loss;
    struct views *views; // borrowed: teacher logits, or NULL
    int64_t step;        // updates made so far
    struct epoch_sums epoch;
    bool finite; // the last step's loss, this rank's
};

// Collective. Builds the network of `stage` with fresh weights. The plan is the stage's stored one,
// else chosen by rank 0, stored in the stage's folder and broadcast.
int trainer_create(struct trainer **out, struct rank *rank, enum stage stage, struct views *views);
void trainer_destroy(struct trainer **p); // takes NULL

// Collective. Step `step` of `epoch`: micro-batches, sum over ranks, update.
int trainer_step(struct trainer *t, int64_t epoch, int64_t step);

// <run folder>/<stage>.
int stage_folder(char *out, const struct rank *rank, enum stage stage);
// The recipe's network for the data set at hand. Not collective.
int trainer_graph(struct graph **out, const struct rank *rank, const struct network_recipe *recipe);
// Which samples make up the steps of a stage.
struct sampler stage_sampler(const struct rank *rank, enum stage stage);
// The augmentation of a stage's epoch: domain and view.
void stage_view(const struct recipe *r, enum stage stage, int64_t epoch, enum random_domain *domain,
                uint32_t *view);
