#pragma once
// Loops compiled for several instruction sets, of which the loader picks the processor's best.
//
// Bits do not depend on the choice: only fmaf and fma fuse (-ffp-contract=off), and both are exact
// wherever they run. Sanitizers instrument the code that picks, before they are ready themselves.

#include <features.h> // __GLIBC__: whose loader can pick

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOST_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOST_SANITIZED
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(HOST_SANITIZED)
#define HOST_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HOST_CLONES
#endif
