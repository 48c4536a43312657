#pragma once
// The samples a rank holds, and how they move between epochs.
//
// At first a rank holds a contiguous range of rows of the file (its hyperslab, read once). With
// shuffle: global a rank needs, in every epoch, just the samples of its own micro-batches
// (data/sampler.h). Between epochs ranks exchange samples (all-to-all), in pieces during the epoch
// before, into a second buffer: a rank never holds more than two shards and a piece. Who needs what
// follows from the permutations; nothing is asked. With shuffle: shard, and on a single rank,
// nothing moves.

#include <stdint.h>

#include "comm/comm.h"
#include "data/dataset.h"
#include "data/pixel_memory.h"
#include "data/sampler.h"

struct shard; // opaque

// Where the pictures should lie when that is not the host's memory: such as a GPU's. Both buffers
// are taken there when the shard is opened, on all ranks or on none, and stay where they are.
struct shard_home {
    struct pixel_memory memory; // its context outlives the shard
    // Of whatever shard_begin_epoch will be asked for; none for evaluation. Borrowed for the call.
    const struct sampler *samplers; // [sampler_count]
    int sampler_count;
};

// Collective. Reads this rank's rows of a split, and the labels of all of it. For evaluation and
// the logit pass this is all; for training follow with shard_begin_epoch. `home` NULL, on all ranks
// alike, or without room on one of them: in the host's memory.
int shard_open(struct shard **out, struct comm *comm, const struct dataset *d,
               enum dataset_split split, const struct shard_home *home);
void shard_close(struct shard **p); // takes NULL; waits for what is in flight between ranks
// [held, height, width, 3], in the shard's memory; at home one of two addresses, by epochs.
const uint8_t *shard_pixels(const struct shard *s);
const int32_t *shard_labels(const struct shard *s); // [count of the split], by sample id
int64_t shard_count(const struct shard *s);         // samples of the whole split
// Rows of the file that this rank reads: slot i is row first + i until an epoch moves samples.
void shard_range(const struct shard *s, int64_t *first, int64_t *last);
// Bytes at the most, a training split's second buffer included.
size_t shard_memory(const struct shard *s);
// Bytes of them that are at home; 0 when all are in the host's memory.
size_t shard_resident(const struct shard *s);

// Collective. Makes the shard hold what `sampler` needs for `epoch`: finishes the exchange under
// way when it is for this epoch, else exchanges now (first epoch, resume, another stage).
// Starts nothing. After this shard_slots works for the epoch's steps.
int shard_begin_epoch(struct shard *s, const struct sampler *sampler, int64_t epoch);
// Collective. Starts bringing `epoch`'s samples into the second buffer, in pieces. Give it the
// sampler of the epoch under way.
int shard_prefetch(struct shard *s, const struct sampler *sampler, int64_t epoch);
// Called by every rank between steps: moves the exchange on, in pieces that end with the epoch.
// Does nothing when no exchange is under way.
int shard_progress(struct shard *s);
// Collective. Back to the rows as read from the file (for the logit pass); re-reads nothing where
// nothing has moved, else reads the file again.
int shard_restore(struct shard *s, const struct dataset *d);

// Positions [first, last) of the current epoch, which this rank owns: sample ids and slots in
// shard_pixels.
int shard_slots(const struct shard *s, int64_t first, int64_t last, int64_t *sample_id,
                int64_t *slot);
