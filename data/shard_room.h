#pragma once
// The room of a shard: two buffers of pictures, one that is trained on and one that an exchange
// fills, and what waits to be sent.
//
// The host's memory is taken as it is needed, and the buffers move when they grow. Other memory is
// taken at once, so that addresses hold for the run and nothing is allocated in the step loop.

#include "data/pixel_memory.h"

struct shard_room {
    struct pixel_memory memory;
    size_t picture_bytes;
    struct shard_rows {
        uint8_t *pixels;  // [capacity, picture_bytes]; in the host's memory owned, else of `block`
        int64_t capacity; // in pictures
    } rows[2];
    uint8_t *block;   // owned; both buffers, where all is taken at once
    uint8_t *send;    // owned; [send_capacity, picture_bytes]
    int64_t *leaving; // owned; [send_capacity]: the slots of what is sent
    int64_t send_capacity;
};

// An empty room in the host's memory.
void room_init(struct shard_room *r, size_t picture_bytes);
void room_free(struct shard_room *r); // leaves it as room_init does
// Takes `buffers` buffers of `rows` pictures in `memory`, and room to send `sent`. Returns false,
// and leaves the room as it was, when that is not to be had.
bool room_take(struct shard_room *r, const struct pixel_memory *memory, int buffers, int64_t rows,
               int64_t sent);
// Buffer `which` holds `rows` pictures from now on; what was in it may be lost.
int room_reserve(struct shard_room *r, int which, int64_t rows);
int room_reserve_send(struct shard_room *r, int64_t rows);
size_t room_bytes(const struct shard_room *r); // held now
