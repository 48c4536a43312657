#pragma once
// Vectors of floats for the kernels of this folder, which are compiled once for AVX-512 and once
// for AVX2 with FMA: what differs is the width and the number of registers. Nobody runs one before
// the processor has been asked (own.c).

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

#ifdef __AVX512F__
typedef __m512 vec;
typedef __mmask16 vec_mask;
enum { LANES = 16, REGISTERS = 32 };
#define VEC(name) _mm512_##name
#define FOR_THIS_SET(name) name##_AVX512
#else
typedef __m256 vec;
typedef __m256i vec_mask;
enum { LANES = 8, REGISTERS = 16 };
#define VEC(name) _mm256_##name
#define FOR_THIS_SET(name) name##_AVX2
#endif

INLINE vec vec_load(const float *aligned)
{
    return VEC(load_ps)(aligned);
}

INLINE void vec_store(float *aligned, vec v)
{
    VEC(store_ps)(aligned, v);
}

// To memory past the caches; whole lines of 64 bytes, and a fence before anybody reads them.
INLINE void vec_stream(float *aligned, vec v)
{
    VEC(stream_ps)(aligned, v);
}

INLINE vec vec_all(float value)
{
    return VEC(set1_ps)(value);
}

INLINE vec vec_zero(void)
{
    return VEC(setzero_ps)();
}

INLINE vec vec_max(vec a, vec b)
{
    return VEC(max_ps)(a, b);
}

// a b + c.
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return VEC(fmadd_ps)(a, b, c);
}

// c - a b.
INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return VEC(fnmadd_ps)(a, b, c);
}

INLINE vec_mask vec_mask_of(bool there)
{
#ifdef __AVX512F__
    return there ? 0xFFFF : 0;
#else
    return _mm256_set1_epi32(there ? -1 : 0);
#endif
}

// Zeros, and nothing is read, where the mask says so.
INLINE vec vec_load_if(vec_mask there, const float *aligned)
{
#ifdef __AVX512F__
    return _mm512_maskz_load_ps(there, aligned);
#else
    return _mm256_maskload_ps(aligned, there);
#endif
}

// Blocks that hold so many channels.
INLINE int blocks(int channels)
{
    return (channels + LANES - 1) / LANES;
}

INLINE int round_up(int value, int step)
{
    return (value + step - 1) / step * step;
}

INLINE int minimum(int a, int b)
{
    return a < b ? a : b;
}

// Output blocks are worked on in groups of three, or two, or one: how many from here on.
enum { GROUP_BLOCKS = 3 };
INLINE int group_blocks(int blocks_left)
{
    return blocks_left % 3 == 0 ? 3 : minimum(blocks_left, 2);
}
