#pragma once
// A rank's micro-batches on their way through the network to one gradient: one after the other, or,
// where BatchNorm is synchronised, side by side; the gradients are added by the tree, and over the
// ranks.

#include "worker/gradient_sum.h"
#include "worker/gradient_tree.h"
#include "worker/whole_batch.h"

struct microbatches_options {
    struct engine *engine; // borrowed, as all pointers here
    struct comm *comm;     // gradients, and sums of synchronised BatchNorms, cross it
    const struct graph *graph;
    struct network *network; // training, for max_batch samples
    struct picture_format format;
    int count;     // micro-batches of this rank
    int max_batch; // samples of the largest
    bool synced;   // norm: batch_sync
    bool deterministic;
    bool sharded;    // a rank needs its own range of the sum alone
    void *gradients; // arena of the sum
};

enum microbatch_part { // where the time goes
    MICROBATCH_AUGMENT,
    MICROBATCH_FORWARD,
    MICROBATCH_LOSS,
    MICROBATCH_BACKWARD,
    MICROBATCH_TREE,
    MICROBATCH_STATISTICS, // of synchronised BatchNorms over the whole batch
    MICROBATCH_SUM,        // of gradients over the ranks, from when backward has ended: what of it
                           // nothing hides; waiting for slower ranks included
    MICROBATCH_PARTS
};

// A plain value that stays where it was made: networks point into it.
struct microbatches {
    struct microbatches_options options;
    struct whole_batch whole;
    struct network_group *group; // owned; NULL: one after the other
    int held;                    // micro-batches in memory at a time: `count` in a group, else 1
    struct input **inputs;       // owned, [held]
    void **leaves;               // owned, [count]: arenas the tree wants gradients in
    struct gradient_tree tree;
    struct gradient_sum sum;
    int64_t *sample_id, *slot;    // owned, host [count, max_batch], of the step under way
    int *samples;                 // owned, [count]: of the step under way
    struct staged_batch **staged; // owned, [count]: the same in engine memory; NULL where the
                                  // engine wants no such thing
    bool timed;                   // waits for the engine after each part, and adds up its seconds
    double seconds[MICROBATCH_PARTS];
};

// On failure free it all the same. Not collective.
int microbatches_init(struct microbatches *m, const struct microbatches_options *options);
void microbatches_free(struct microbatches *m); // takes a zeroed one
// Bytes of the networks (that of the options included) and pictures.
size_t microbatches_memory(const struct microbatches *m);

// What a step trains on.
struct microbatch_step {
    struct picture_batch pictures; // all but slot, sample_id and count
    struct loss_targets targets;   // all but sample_id and count
    struct loss_spec loss;
    const struct step_scalars *scalars; // engine memory
    double *sums;                       // engine memory [LOSS_SUMS]: += the losses
    // Sample ids and slots of this rank's micro-batch k, [max_batch]; *count may be 0.
    int (*samples)(void *context, int k, int64_t *sample_id, int64_t *slot, int *count);
    void *context;
};
// The host's part of a step: finds its samples and brings them to the engine. Not collective.
int microbatches_prepare(struct microbatches *m, const struct microbatch_step *step);
// The rest, with the same `step`, which may be recorded (engine_record): of what changes from step
// to step it depends on the counts alone. Not with `timed`, which waits.
// options.gradients = the sum over all ranks' micro-batches; where sharded, of this rank's own
// range (comm_own_range). Collective.
int microbatches_gradients(struct microbatches *m, const struct microbatch_step *step);
