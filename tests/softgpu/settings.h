#pragma once
// What softgpu.h sets, as the parts of the software GPU read it.

#include <cstdint>
#include <string>

#include <cuda_runtime_api.h>

#include "softgpu.h"

namespace softgpu
{

struct Settings {
    softgpu_policy policy;
    uint64_t policy_seed;
    softgpu_order order;
    uint64_t order_seed;
    bool races, trace;
    int devices;
};
extern Settings settings;

// Reads the environment: before main, and in softgpu_reset.
void settings_read();
// The code that this call of `call` is to return instead of working, 0 for none.
int injected(const char *call);

} // namespace softgpu
