#pragma once
// Learning rates: constant, step, cosine (Loshchilov & Hutter 2017), each after a linear warm-up.

#include <stdint.h>

#include "base/recipe.h"

// The learning rate of update `step` (from 0) with `steps` updates an epoch. Warm-up is linear: its
// first update uses lr / warm-up updates, its last one lr.
double schedule_lr(const struct network_recipe *r, int64_t step, int64_t steps);
