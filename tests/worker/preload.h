#pragma once
// What libraries for LD_PRELOAD share: the function they stand before, and the file behind a
// descriptor. Hidden: each library has functions of its own, and "next" is seen from there.

#include <stddef.h>

#pragma GCC visibility push(hidden)

// The next definition of `name`; aborts where there is none.
void *preload_next(const char *name);

// The path of an open file; "" when the system does not know.
void preload_path(int descriptor, char *out, size_t out_bytes);

#pragma GCC visibility pop
