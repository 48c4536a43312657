#pragma once
// What activations are made of in device memory.

#include <stddef.h>

#include "base/random.h" // HOST_DEVICE

enum element_type { ELEMENT_F32, ELEMENT_BF16, ELEMENT_F16 };

// Channels in memory are a multiple of this: 16 bytes of bf16 or f16, what tensor cores take at
// once.
enum { CHANNEL_UNIT = 8 };

static inline size_t element_bytes(enum element_type type)
{
    return type == ELEMENT_F32 ? 4 : 2;
}

HOST_DEVICE static inline int channels_padded(int channels)
{
    return (channels + CHANNEL_UNIT - 1) / CHANNEL_UNIT * CHANNEL_UNIT;
}
