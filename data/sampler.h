#pragma once
// Which samples make up a step, and which rank trains on them: arithmetic only, no pictures.
//
// An epoch visits positions [0, count). With shuffle: global, step s is positions
// [s * batch, (s + 1) * batch), the last step may be smaller, and position p is sample
// permutation_apply(p) of a permutation keyed by the epoch: nothing depends on the ranks. A step of
// n samples is cut into micro-batches whose sizes differ by one at most, larger ones first; rank r
// runs those of comm_microbatch_range.
//
// With shuffle: shard, rank r visits the R_r rows of its own file range in an order of its own:
// step s of S takes rows [s * R_r / S, (s + 1) * R_r / S) of that order (floors). Positions are
// then numbered by step, within a step by rank: every sample still has its turn once an epoch, all
// ranks make the same number of steps, and steps differ in size by less than the number of ranks.
// Which samples share a step depends on the number of ranks: the documented exception.

#include <stdint.h>

#include "base/recipe.h"

// Which rows of `count` rank `rank` of `size` reads: whole blocks of DATASET_BLOCK, even to a
// block.
void shard_rows(int64_t count, int rank, int size, int64_t *first, int64_t *last);

struct sampler {
    int64_t count, batch, microbatches; // samples of the split, global batch, parts
    int rank, size;                     // microbatches >= size
    int64_t shuffle;                    // enum shuffle_kind
    uint64_t seed;
};
int64_t sampler_steps(const struct sampler *s); // an epoch's; the last batch may be smaller
int64_t sampler_step_size(const struct sampler *s, int64_t step); // global samples in that step
// First position of a step; sampler_steps gives count.
int64_t sampler_step_first(const struct sampler *s, int64_t step);
// Most samples that a micro-batch of this rank has: what buffers are sized for. With shuffle: shard
// this may be more than batch / microbatches, rounded up, because file ranges differ by a block.
int64_t sampler_largest_microbatch(const struct sampler *s);
// Micro-batch m of a step is positions [*first, *last) of the epoch (possibly empty).
void sampler_microbatch(const struct sampler *s, int64_t step, int64_t m, int64_t *first,
                        int64_t *last);
// This rank's micro-batches [*first, *last).
void sampler_own(const struct sampler *s, int64_t *first, int64_t *last);
// Positions of a step that rank `rank` trains on: one range, its micro-batches in order.
void sampler_share(const struct sampler *s, int64_t step, int rank, int64_t *first, int64_t *last);
// Sample id at a position of an epoch, and back.
int64_t sampler_sample(const struct sampler *s, int64_t epoch, int64_t position);
int64_t sampler_position(const struct sampler *s, int64_t epoch, int64_t sample);
// Which rank trains on that position. Linear in the number of ranks.
int sampler_owner(const struct sampler *s, int64_t position);
