#pragma once
// The tests of every collective, for any transport and number of ranks: each test_* program makes
// a communicator and runs them. Data follow from (rank, index), so each rank knows what all hold.

#include "tests/comm/engine_memory.h"

// Runs all, engine_memory_run's too; returns the number of failed tests.
int collectives_run(struct comm *c, const struct test_memory *memory);
