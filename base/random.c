#include "base/random.h"

#include <math.h>

#include "base/error.h"

// Seven rounds resist every known attack on balanced Feistel networks; one more keeps the small
// domains of small data sets well mixed.
enum { FEISTEL_ROUNDS = 8 };

void random_normal_pair(uint32_t a, uint32_t b, double out[2])
{
    static const double TWO_PI = 6.283185307179586476925;
    double radius = sqrt(-2.0 * log(random_unit(a)));
    double angle = TWO_PI * random_unit(b);
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void permutation_init(struct permutation *p, uint64_t seed, enum random_domain domain, uint32_t key,
                      uint64_t count)
{
    CHECK(count > 0);
    unsigned half_bits = 1;
    while (half_bits < 32 && (count - 1) >> (2 * half_bits) != 0)
        half_bits++;
    *p = (struct permutation){
        .seed = seed, .domain = domain, .key = key, .count = count, .half_bits = half_bits};
}

static uint32_t half_mask(const struct permutation *p)
{
    return p->half_bits == 32 ? UINT32_MAX : (1u << p->half_bits) - 1;
}

static uint32_t round_function(const struct permutation *p, uint64_t round, uint32_t half)
{
    return random_draw(p->seed, p->domain, p->key, round << 32 | half).v[0] & half_mask(p);
}

// (left, right) -> (right, left ^ F(right)), over all of [0, 4^half_bits).
static uint64_t feistel_forward(const struct permutation *p, uint64_t value)
{
    uint32_t left = (uint32_t)(value >> p->half_bits), right = (uint32_t)value & half_mask(p);
    for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
        uint32_t next = left ^ round_function(p, round, right);
        left = right;
        right = next;
    }
    return (uint64_t)left << p->half_bits | right;
}

static uint64_t feistel_backward(const struct permutation *p, uint64_t value)
{
    uint32_t left = (uint32_t)(value >> p->half_bits), right = (uint32_t)value & half_mask(p);
    for (uint64_t round = FEISTEL_ROUNDS; round-- > 0;) {
        uint32_t previous = right ^ round_function(p, round, left);
        right = left;
        left = previous;
    }
    return (uint64_t)left << p->half_bits | right;
}

// Walks the cycle of the larger domain until it is back in [0, count): fewer than four steps on
// average, because the domain is less than four times as large.
uint64_t permutation_apply(const struct permutation *p, uint64_t position)
{
    CHECK(position < p->count);
    do
        position = feistel_forward(p, position);
    while (position >= p->count);
    return position;
}

uint64_t permutation_invert(const struct permutation *p, uint64_t value)
{
    CHECK(value < p->count);
    do
        value = feistel_backward(p, value);
    while (value >= p->count);
    return value;
}
