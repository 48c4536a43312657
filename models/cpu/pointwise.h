#pragma once
// Layers without weights: ReLU where it stands alone, average pool.

#include "models/cpu/network.h"

// dy = 0 where y, the ReLU's output, is not above 0.
void relu_backward(const struct cpu_network *n, const struct layer *l);
// sums[padded] = over samples and pixels of blocked f32 dy, in a fixed order.
void channel_sums(const struct cpu_network *n, const struct shape *s, int count, const float *dy,
                  float *sums);
