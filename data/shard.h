#pragma once
// The samples a rank holds, and how they move between epochs.
//
// At first a rank holds a contiguous range of rows of the file (its hyperslab, read once). With
// shuffle: global, epoch e visits samples in the order of a keyed permutation: position p of the
// epoch is sample permutation_apply(p). Step s is positions [s * batch, (s + 1) * batch), cut into
// micro-batches; a rank needs just the samples of its own micro-batches. Between epochs ranks
// exchange samples (all-to-all), in pieces during the epoch before, into a second buffer: a rank
// never holds more than two shards. Who needs what follows from the permutations; nothing is asked.
// With shuffle: shard, a rank permutes the rows of its own range and nothing moves.

#include <stdint.h>

#include "base/recipe.h"
#include "comm/comm.h"
#include "data/dataset.h"

// Which rows of `count` rank `rank` of `size` reads: whole blocks of DATASET_BLOCK, even to a
// block.
void shard_rows(int64_t count, int rank, int size, int64_t *first, int64_t *last);

// The samples of a step and the micro-batches of a rank: arithmetic only, no pictures.
struct sampler {
    int64_t count, batch, microbatches; // samples of the split, global batch, parts
    int rank, size;
    int64_t shuffle; // enum shuffle_kind
    uint64_t seed;
};
int64_t sampler_steps(const struct sampler *s); // an epoch's; the last batch may be smaller
int64_t sampler_step_size(const struct sampler *s, int64_t step); // global samples in that step
// Micro-batch m of a step is positions [*first, *last) of the epoch (possibly empty).
void sampler_microbatch(const struct sampler *s, int64_t step, int64_t m, int64_t *first,
                        int64_t *last);
// This rank's micro-batches [*first, *last).
void sampler_own(const struct sampler *s, int64_t *first, int64_t *last);
// Sample id at a position of an epoch, and back (shuffle: global).
int64_t sampler_sample(const struct sampler *s, int64_t epoch, int64_t position);
int64_t sampler_position(const struct sampler *s, int64_t epoch, int64_t sample);
// Which rank trains on that position.
int sampler_owner(const struct sampler *s, int64_t position);
// Positions of `step` that `rank` trains on: its micro-batches, one after the other.
void sampler_rank_range(const struct sampler *s, int rank, int64_t step, int64_t *first,
                        int64_t *last);
// The how-maniest of the rank's positions of an epoch `position` is, from 0.
int64_t sampler_local(const struct sampler *s, int rank, int64_t position);
// How many positions of an epoch a rank has.
int64_t sampler_share(const struct sampler *s, int rank);

struct shard; // opaque

// Collective. Reads this rank's rows of a split, and the labels of all of it. For evaluation and
// the logit pass this is all; for training follow with shard_begin_epoch.
int shard_open(struct shard **out, struct comm *comm, const struct dataset *d,
               enum dataset_split split);
void shard_close(struct shard **p);                 // takes NULL
const uint8_t *shard_pixels(const struct shard *s); // [held, height, width, 3]; changes with epochs
const int32_t *shard_labels(const struct shard *s); // [count of the split], by sample id
int64_t shard_count(const struct shard *s);         // samples of the whole split
void shard_range(const struct shard *s, int64_t *first,
                 int64_t *last);            // rows as read from the file
size_t shard_memory(const struct shard *s); // bytes at the most, second buffer included

// Collective. Makes the shard hold what `sampler` needs for `epoch`: finishes the exchange under
// way when it is for this epoch, else exchanges now (first epoch, resume, evaluation afterwards).
// Starts nothing. After this shard_slots works for the epoch's steps.
int shard_begin_epoch(struct shard *s, const struct sampler *sampler, int64_t epoch);
// Collective. Starts bringing `epoch`'s samples into the second buffer, in pieces.
int shard_prefetch(struct shard *s, const struct sampler *sampler, int64_t epoch);
// Called by every rank between steps: moves one piece on (of about `pieces` = steps of the epoch,
// so that the exchange ends with the epoch). Does nothing when no exchange is under way.
int shard_progress(struct shard *s);
// Collective. Back to the rows as read from the file (for the logit pass); re-reads nothing where
// the rank is alone, else reads the file again.
int shard_restore(struct shard *s, const struct dataset *d);

// Positions [first, last) of the current epoch, which this rank owns: sample ids and slots in
// shard_pixels.
int shard_slots(const struct shard *s, int64_t first, int64_t last, int64_t *sample_id,
                int64_t *slot);
