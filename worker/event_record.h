#pragma once
// One record of TensorBoard's event files: an Event (event.proto) in TFRecord's frame, which is its
// length and the length's checksum in front, its own checksum behind.

#include <stddef.h>
#include <stdint.h>

enum { EVENT_SCALARS = 16, EVENT_BYTES = 1024 };

struct scalar {
    const char *tag; // borrowed; up to 32 bytes
    float value;
};

struct event_record {
    uint8_t data[EVENT_BYTES];
    size_t bytes;
};

// The first of every file.
void event_record_version(struct event_record *out);
// What files before this one say of `step` and later is void.
void event_record_start(struct event_record *out, int64_t step);
// Up to EVENT_SCALARS values at `step`.
void event_record_scalars(struct event_record *out, int64_t step, const struct scalar *scalars,
                          size_t count);
