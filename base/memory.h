#pragma once
// How much memory there is.

#include <stddef.h>

// Bytes of this machine.
size_t memory_bytes(void);
