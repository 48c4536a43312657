#pragma once
// Device memory: one range of addresses that the host cannot touch while no queued work runs.

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include <string>

namespace softgpu
{

struct Allocation {
    uintptr_t begin, end; // as asked for, not rounded
    bool host;            // pinned host memory
};

// The allocation that holds this address, or NULL.
const Allocation *memory_find(uintptr_t address);
// Whether [p, p + bytes) is ordinary host memory, pinned host memory, or inside one device
// allocation. STRAY: in the device's range, but not inside an allocation.
enum class Memory { PAGEABLE, PINNED, DEVICE, STRAY };
Memory memory_kind(const void *p, size_t bytes);
// A fault when an operation's range is STRAY; `what` names operation and operand.
bool memory_check(const void *p, size_t bytes, const std::string &what);

// While one of these lives the device's memory can be touched.
class MemoryOpen
{
  public:
    MemoryOpen();
    ~MemoryOpen();
    MemoryOpen(const MemoryOpen &) = delete;
    MemoryOpen &operator=(const MemoryOpen &) = delete;
};

cudaError_t memory_create(void **out, size_t bytes);
cudaError_t memory_create_host(void **out, size_t bytes);
cudaError_t memory_destroy(void *p, bool host);
void memory_set_limit(size_t bytes);
void memory_free_all();
size_t memory_used();
size_t memory_limit();

} // namespace softgpu
