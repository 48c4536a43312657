#pragma once
// Layers without weights: ReLU where it stands alone, average pool, flattening.

#include "models/cpu/network.h"

// dy[i] = y[i] > 0 ? dy[i] : 0, i < count: y is the ReLU's output.
void relu_backward(const struct cpu_network *n, const float *y, float *dy, size_t count);
