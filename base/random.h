#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11), from Random123.
//
// A draw is a pure function of (seed, domain, a, b, index): no state, so that ranks, threads and
// engines that ask the same question get the same answer. Host and device code.

#include <Random123/philox.h>
#include <stdint.h>

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

// What a random number is for. Numbers are part of the file formats: never renumber.
enum random_domain {
    RANDOM_INIT = 1,            // weights: a = layer, b = index of the weight / 4
    RANDOM_SHUFFLE = 2,         // sample order: a = epoch
    RANDOM_AUGMENT_TEACHER = 3, // a = view (the epoch), b = sample id
    RANDOM_AUGMENT_STUDENT = 4, // a = view, b = sample id: logits, baseline and student share it
    RANDOM_PACK = 5,            // order of samples in a data set file
    RANDOM_SYNTH = 6,           // drawn pictures
    RANDOM_VERIFY = 7,          // which stored logits are recomputed
};

struct random_block {
    uint32_t v[4];
};

// Four independent 32-bit numbers.
HOST_DEVICE static inline struct random_block random_draw(uint64_t seed, enum random_domain domain,
                                                          uint32_t a, uint64_t b)
{
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t counter = {{(uint32_t)domain, a, (uint32_t)b, (uint32_t)(b >> 32)}};
    philox4x32_ctr_t r = philox4x32(counter, key);
    struct random_block out = {{r.v[0], r.v[1], r.v[2], r.v[3]}};
    return out;
}

// Uniform in [0, bound) by multiply-shift; bias below bound / 2^32.
HOST_DEVICE static inline uint32_t random_below(uint32_t word, uint32_t bound)
{
    return (uint32_t)(((uint64_t)word * bound) >> 32);
}

// Uniform in (0, 1).
HOST_DEVICE static inline double random_unit(uint32_t word)
{
    return ((double)word + 0.5) * (1.0 / 4294967296.0);
}

// Two normal deviates N(0, 1) from two words (Box and Muller 1958).
void random_normal_pair(uint32_t a, uint32_t b, double out[2]);

// A keyed permutation of [0, count): a Feistel network over Philox with cycle walking, evaluated
// point by point in both directions, so that no rank stores it.
struct permutation {
    uint64_t seed;
    enum random_domain domain;
    uint32_t key; // e.g. the epoch
    uint64_t count;
    unsigned half_bits;
};
void permutation_init(struct permutation *p, uint64_t seed, enum random_domain domain, uint32_t key,
                      uint64_t count);
uint64_t permutation_apply(const struct permutation *p, uint64_t position);
uint64_t permutation_invert(const struct permutation *p, uint64_t value);
