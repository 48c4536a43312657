#pragma once
// Elements of activations, f32 or (narrow) bf16, read and written as float. `narrow` is a constant
// where these are inlined, so that loops over them become vectors.

#include <stdbool.h>
#include <stddef.h>

#include "base/arith/bfloat16.h"

static inline size_t element_bytes(bool narrow)
{
    return narrow ? sizeof(uint16_t) : sizeof(float);
}

static inline __attribute__((always_inline)) float element_get(const void *from, size_t i,
                                                               bool narrow)
{
    return narrow ? bfloat16_to_float(((const uint16_t *)from)[i]) : ((const float *)from)[i];
}

static inline __attribute__((always_inline)) void element_put(void *to, size_t i, float value,
                                                              bool narrow)
{
    if (narrow)
        ((uint16_t *)to)[i] = bfloat16_from_float(value);
    else
        ((float *)to)[i] = value;
}
