#pragma once
// What a stage will cost, said before it is spent.

#include <stdbool.h>

#include "worker/trainer.h"

// One line: memory of a rank, by part, and what the stage's checkpoints take on disk.
void cost_say_memory(const struct trainer *t);
// After enough steps, one line: how long the stage will take. Returns whether it was said.
bool cost_say_time(const struct trainer *t, double samples, double seconds);
