#pragma once
// What this host offers: physical cores, processor, instruction sets.

#include <stddef.h>

// Physical cores this process may use (hardware threads of one core count once); at least 1.
int machine_cores(void);
// "AMD EPYC 9654 96-Core Processor", or "unknown processor".
void machine_processor(char *out, size_t out_bytes);
// Those of `flags` (names of /proc/cpuinfo) that the processor has, with blanks between.
void machine_features(const char *const *flags, size_t flag_count, char *out, size_t out_bytes);
