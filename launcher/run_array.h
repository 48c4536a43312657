#pragma once
// `retort run --array`: a run for each value of a key, one after the other.

#include "launcher/run_one.h"

// Each in `parent`/KEY=VALUE. Those that are done are left alone, one that fails does not keep the
// others from running, and a stop ends all. Prints one table; returns the first failure's code.
int run_array(const struct run_arguments *a, const char *parent);
