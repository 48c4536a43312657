#pragma once
// IEEE half precision (f16, as 16 bits) to and from double, shared by host and device.

#include <stdint.h>
#include <string.h>

#include "base/random.h" // HOST_DEVICE

#define HALF_MAX 65504.0

HOST_DEVICE static inline double half_to_double(uint16_t h)
{
    uint64_t sign = (uint64_t)(h >> 15) << 63, exponent = h >> 10 & 31u, fraction = h & 1023u;
    double magnitude;
    if (exponent == 0) // zero and subnormals: multiples of 2^-24
        magnitude = (double)fraction * (1.0 / 16777216.0);
    else {
        uint64_t wide = exponent == 31 ? 2047 : exponent - 15 + 1023;
        uint64_t bits = wide << 52 | fraction << 42;
        memcpy(&magnitude, &bits, sizeof(magnitude));
    }
    uint64_t bits;
    memcpy(&bits, &magnitude, sizeof(bits));
    bits |= sign;
    memcpy(&magnitude, &bits, sizeof(magnitude));
    return magnitude;
}

// Rounds to nearest, ties to even; what does not fit, infinities and NaN included, gives *fits = 0
// (it is left alone otherwise) and an infinity or NaN.
HOST_DEVICE static inline uint16_t half_from_double(double v, int *fits)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    double a = v < 0.0 ? -v : v;
    if (!(a < 65520.0)) { // from here on nearest is 2^16, which f16 has not; NaN too
        *fits = 0;
        return (uint16_t)(sign | (v != v ? 0x7e00u : 0x7c00u));
    }
    // Adding 2^52 units of the last place rounds to a whole number of them, ties to even.
    int exponent = (int)(bits >> 52 & 2047u) - 1023;
    if (exponent < -14)
        exponent = -14;
    uint64_t unit_bits = (uint64_t)(exponent - 10 + 52 + 1023) << 52;
    double magic;
    memcpy(&magic, &unit_bits, sizeof(magic));
    double rounded = (a + magic) - magic; // may reach the next binade, whose bits follow on
    uint64_t inverse_bits = (uint64_t)(10 - exponent + 1023) << 52;
    double inverse;
    memcpy(&inverse, &inverse_bits, sizeof(inverse));
    uint32_t units = (uint32_t)(rounded * inverse); // [0, 2048]; normals from 1024
    uint32_t h = ((uint32_t)(exponent + 14) << 10) + units;
    return (uint16_t)(sign | h);
}
