#pragma once
// How kernels are launched: one template, for nvcc and for the C++ compiler of the tests, which has
// no <<<>>>.
//
//   kernel_launch(launch_shape{blocks, threads, 0, stream}, scale, to, from, count);

#include <cuda_runtime.h>

struct launch_shape {
    dim3 grid, block;
    size_t shared_bytes; // of dynamic_shared
    cudaStream_t stream;
};

// Dynamic shared memory, under the one name that it has in every kernel.
extern __shared__ __align__(16) unsigned char dynamic_shared[];

// Returns cudaGetLastError(): what the launch, or a call before it, has left.
template <typename... Parameters, typename... Arguments>
static inline cudaError_t kernel_launch(const launch_shape &shape, void (*kernel)(Parameters...),
                                        Arguments... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = shape.stream;
    (void)cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    return cudaGetLastError();
}
