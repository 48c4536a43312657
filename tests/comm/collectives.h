#pragma once
// The tests of every collective, for any transport and number of ranks: each test_* program makes
// a communicator and runs them. Data follow from (rank, index), so each rank knows what all hold.

#include "comm/comm.h"

// Runs all; returns the number of failed tests.
int collectives_run(struct comm *c);
