#pragma once
// The door through which compiled kernels come: see device.h.

#include <cstddef>
#include <cuda_runtime_api.h>

namespace softgpu
{

// Queues run(call) for every thread of the grid; `call` is trivially copyable.
cudaError_t kernel_submit(const cudaLaunchConfig_t &config, const void *function, const void *call,
                          size_t call_bytes, void (*run)(const void *call));

} // namespace softgpu
