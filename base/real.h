#pragma once
// The two types arenas come in: an engine's own, f32 or (the reference engine) f64.

#include <stddef.h>

enum real_type { REAL_F32, REAL_F64 };

static inline size_t real_bytes(enum real_type type)
{
    return type == REAL_F64 ? sizeof(double) : sizeof(float);
}
