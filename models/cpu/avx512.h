#pragma once
// What the AVX-512 kernels of this folder share. Their files alone are compiled for it; each asks
// the processor before it is used.

#include <immintrin.h>
#include <stddef.h>

enum { LANES = 16 };

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

// Blocks that hold so many channels.
INLINE int blocks(int channels)
{
    return (channels + LANES - 1) / LANES;
}

INLINE int round_up(int value, int step)
{
    return (value + step - 1) / step * step;
}
