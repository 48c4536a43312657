#pragma once
// Brings the samples of one epoch to the ranks that train on them, in pieces (shuffle: global).
//
// A place table says where every sample of the split is: its slot in this rank's pixels, or which
// other rank holds it. From the table of now and the order of the epoch to come, sender and
// receiver compute alike what travels; only pixels do. What arrives is left where it lands, in the
// order of (piece, source rank, position), and goes into the table to come: nothing is unpacked.

#include "comm/comm.h"
#include "data/sampler.h"
#include "data/shard_room.h"

// >= 0: the slot in this rank's pixels; < 0: -1 - rank that holds the sample.
static inline int64_t place_at_rank(int rank)
{
    return -1 - (int64_t)rank;
}

struct exchange; // opaque

// What an exchange reads and writes; all borrowed, and left alone by others until it is destroyed.
struct exchange_buffers {
    struct shard_room *room; // buffer `now` is read, the other one holds exchange_rows pictures
    int now;
    const int64_t *place; // [count of the split]
    int64_t *next_place;  // [count of the split]
};

// Rows of an epoch that fall to the sampler's rank.
int64_t exchange_rows(const struct sampler *sampler);
// How many pictures of a piece a rank sends at the most, itself included, if it holds `rows` of
// them: samples come in a random order, and this is eight standard deviations off.
int64_t exchange_sent_rows(const struct sampler *sampler, int64_t pieces, int64_t rows);
// Not collective; nothing moves yet. `pieces` is cut to the number of samples.
int exchange_create(struct exchange **out, struct comm *comm, const struct sampler *sampler,
                    int64_t epoch, int64_t pieces, const struct exchange_buffers *buffers);
// Waits for what is in flight, which every rank has started; takes NULL.
int exchange_destroy(struct exchange **p);

// Collective. Waits for the piece in flight (in memory that is not the host's, lets what is queued
// from now on come after it) and starts the next one, if there is one.
int exchange_step(struct exchange *x);
// Lets the piece in flight make progress, without waiting.
int exchange_poll(struct exchange *x);
bool exchange_is_done(const struct exchange *x);
bool exchange_is_for(const struct exchange *x, const struct sampler *sampler, int64_t epoch);
