#pragma once
// The memory that a shard's pictures lie in: the host's, or that of the engine that trains on them.
//
// Whoever opens a shard brings it: data/ knows no engine. Codes are retort_codes; what fails has
// said so.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pixel_memory {
    void *context; // the functions' first argument
    // NULL, without a word, when there is none to spare.
    void *(*alloc)(void *context, size_t bytes);
    void (*free)(void *context, void *p); // takes NULL
    // From the host; `from` may change when it returns.
    int (*upload)(void *context, void *to, const void *from, size_t bytes);
    // to[i] = from[rows[i]], i < count, `row_bytes` each; all three lie in this memory.
    int (*gather)(void *context, void *to, const void *from, const int64_t *rows, int64_t count,
                  size_t row_bytes);
    // Ordinary memory: the host may write it, and comm_exchange_start moves it between ranks; else
    // comm_engine_exchange_start does. An upload, a gather and an exchange come one after the other
    // as they were called.
    bool is_host;
};
extern const struct pixel_memory pixel_memory_host;
