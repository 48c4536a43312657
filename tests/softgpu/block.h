#pragma once
// Runs a kernel: blocks one after the other, the threads of a block as fibers that yield at
// barriers and shuffles.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fault.h"

namespace softgpu
{

// One launch. `call` holds a trivially copyable object that run(call) calls the kernel with: each
// thread gets a copy on its own stack.
struct Kernel {
    const void *function; // for its name and its module
    dim3 grid, block;
    size_t dynamic_bytes;
    std::vector<char> call;
    void (*run)(const void *call);
};

// False when a thread was stopped by misuse, which has been reported.
bool grid_run(const Kernel &kernel);

// ---- for the thread that runs (see device.h)
enum class Meet {
    SYNC,    // no value
    SHUFFLE, // value of lane `source`
    BALLOT,  // bit of each lane whose value is not 0
    ADD,     // of unsigned values
    MIN,     // of unsigned values
    MAX,     // of unsigned values
};
// Waits for every lane of the mask at this place; returns what the lanes make of their values.
uint64_t warp_meet(Meet kind, unsigned mask, uint64_t value, int source, Place place);
// Waits for the whole block; returns how many threads came with `count` not 0.
int block_meet(int count, Place place);
int thread_lane();
// __threadfence: what this thread has written is seen by who reads what it publishes from now on.
void thread_fence();
// Ends the kernel with a line that names kernel, block and thread.
[[noreturn]] void thread_fault(cudaError_t code, const std::string &where, const std::string &what);
// As above, when a thread runs; else (host code) reports and ends the process.
void code_fault(cudaError_t code, const std::string &where, const std::string &what);

} // namespace softgpu
