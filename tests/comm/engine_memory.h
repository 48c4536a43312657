#pragma once
// The tests of collectives on the engine's memory, for any kind of it.

#include "comm/comm.h"

// Memory of the engine's kind. Functions fail the test when they cannot.
struct test_memory {
    void *(*create)(size_t bytes);
    void (*destroy)(void *p);
    void (*put)(void *to, const void *from, size_t bytes); // from the host
    void (*get)(void *to, const void *from, size_t bytes); // to the host; nothing is under way
    size_t most;                                           // elements of the largest tests
};
extern const struct test_memory test_memory_host;

// Returns the number of failed tests.
int engine_memory_run(struct comm *c, const struct test_memory *memory);
// The deterministic all-reduce of `count` elements has the tree's bits.
void engine_memory_check_sum(struct comm *c, const struct test_memory *memory, size_t count,
                             enum real_type type);
