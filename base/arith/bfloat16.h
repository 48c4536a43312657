#pragma once
// bf16 (the upper half of an f32, as 16 bits) to and from float. Without branches, so that loops
// become vectors on any processor.

#include <stdint.h>
#include <string.h>

static inline float bfloat16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

// Rounds to nearest, ties to even; NaN stays NaN.
static inline uint16_t bfloat16_from_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    uint32_t rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    uint32_t quiet = bits | 0x400000U; // rounding could carry a NaN over to zero
    return (uint16_t)(((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded) >> 16);
}
