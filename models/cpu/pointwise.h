#pragma once
// Layers without weights: ReLU where it stands alone, average pool, flattening.

#include "models/cpu/network.h"

// dy[i] = y[i] > 0 ? dy[i] : 0, i < count: y is the ReLU's output.
void relu_backward(const struct cpu_network *n, const float *y, float *dy, size_t count);
// sums[padded] = over samples and pixels of blocked dy, in a fixed order.
void channel_sums(const struct cpu_network *n, const struct shape *s, int count, const float *dy,
                  float *sums);
