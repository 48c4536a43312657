#pragma once
// A run on all the ranks of a test program, and beside it, on every rank, one that is alone.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/trainer.h"

extern struct pair {
    struct comm *all, *self;
    struct rank together, alone; // both open on the same data set, by the same recipe
} pair;

// A teacher conv12/4 and a student conv4/4, 2 epochs each of batches of 18 (the last of 16 of the
// 160 samples), 4 micro-batches, learning rate 0.02, EMA decay 0.5.
//
// argv[1] is the data set; the engine is RETORT_DEVICE's, cpu by default. Returns the exit code; a
// failure on one rank ends all.
int pair_run_tests(int argc, char **argv, const struct CMUnitTest *tests, size_t count);
