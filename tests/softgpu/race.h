#pragma once
// Whether two accesses of a kernel to the same byte are ordered, and whether an access is allowed.
//
// Each byte that a kernel touches remembers its last write and what is known of its reads since.
// An earlier access is ordered before this one when it is of the same thread; of the same block
// before a barrier; of the same warp before a __syncwarp; of an earlier kernel; or of a block that
// published it by __threadfence and an atomic which this block has read by an atomic. Everything
// else is unordered, and a race when one of the two is a write that is not an atomic.

#include <cstddef>
#include <cstdint>

#include "fault.h"

namespace softgpu
{

enum class Access { READ, WRITE, ATOMIC };

// Memory outside device allocations that threads may touch.
struct Spaces {
    uintptr_t shared, shared_end;   // __shared__ variables of the kernel's module
    uintptr_t dynamic, dynamic_end; // extern __shared__
    uintptr_t module, module_end;   // __device__ and __constant__ variables
    uintptr_t indices, indices_end; // threadIdx and its like
    uintptr_t stack, stack_end;     // of the thread that runs
};
extern Spaces spaces;
// All but the stack, for a kernel of this function.
void spaces_fill(const void *function, size_t dynamic_bytes);

// The thread that runs, as races see it.
struct Clock {
    uint32_t serial;   // of this block's run: a number no other has
    uint32_t interval; // barriers it has passed
    uint16_t thread, warp, warp_interval;
    bool fenced;
};
extern Clock clock_now;
// false: host code runs, whose accesses are not looked at; in one thread, while another may run a
// kernel.
extern thread_local bool clock_running;

void race_kernel_begin(uint32_t first_serial);
void race_block_begin();
void race_kernel_end();

// Checks an access of the running thread. pc: where in the code.
void access_check(uintptr_t address, size_t bytes, Access access, uintptr_t pc);

} // namespace softgpu
