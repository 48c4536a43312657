#pragma once
// What this machine's processor can do.

#include <stdbool.h>

// Whether products in bf16 are faster here than in f32: AMX is (7 times, Sapphire Rapids), and
// AMD's AVX-512-bf16 (2 times, Zen 4); Intel's alone is half as fast as f32.
bool processor_gains_by_bf16(void);
