#pragma once
// Inside of a shard, and the exchange that brings the next epoch's samples.
//
// A layout says which sample lies where. In the file's, rank r holds its rows in order. In an
// epoch's, rank r holds the samples at its positions; position p is the local-th of them
// (sampler_local), and lies at slot[local]. An exchange goes through the target epoch's positions
// in pieces; both sides compute from the two layouts who sends what, so only pixels travel. What
// arrives is left where it lands, ordered by (piece, source rank, position), and slot[] records it.

#include "data/shard.h"

struct shard_layout {
    bool is_epoch; // else the file's
    bool moved;    // samples left their file order
    struct sampler sampler;
    int64_t epoch;
    int64_t *slot; // owned; [local positions], is_epoch only
};

struct exchange {
    bool active;
    struct shard_layout target;
    int64_t next_position; // first position not yet exchanged
    int64_t landed;        // rows of the target buffer in use
    int64_t calls;         // of shard_progress
    uint8_t *staging;      // owned; what is being sent
    int64_t staging_rows;
    size_t *counts;               // owned; [4][size]: send counts, offsets, receive counts, offsets
    struct comm_request *request; // in flight, or NULL
};

struct shard {
    struct comm *comm; // borrowed
    enum dataset_split split;
    int64_t count, first, last;
    size_t picture_bytes;
    int32_t *labels; // owned
    struct shard_buffer {
        uint8_t *pixels; // owned
        int64_t capacity;
    } buffers[2];
    int now; // the buffer that is trained on
    struct shard_layout layout;
    struct exchange exchange;
};

// Room for `rows` pictures in buffer `which`; its contents are lost when it grows.
int shard_reserve(struct shard *s, int which, int64_t rows);
// Collective. Waits for what is in flight and forgets the exchange.
int exchange_cancel(struct shard *s);
// The same without talking to anyone, when the shard goes.
void exchange_abandon(struct shard *s);
