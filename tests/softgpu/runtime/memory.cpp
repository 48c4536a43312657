#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <execinfo.h>
#include <map>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "../fault.h"
#include "../softgpu.h"

namespace softgpu
{

namespace
{

enum : uintptr_t {
    RANGE_BYTES = 1ull << 38, // addresses; never used twice, so that stale pointers are caught
    GAP = 4096,               // at least, between allocations
    POISON = 0xff
};

std::map<uintptr_t, Allocation> allocations; // by their begin
uintptr_t range, next;                       // [range, next) has been given out
int opened;
size_t used, limit;
struct sigaction others_action; // what a fault elsewhere is for

bool in_range(uintptr_t a)
{
    return a >= range && a < range + RANGE_BYTES;
}

// The host's own touch of device memory; what else faults dies as it would have.
void on_segv(int number, siginfo_t *info, void *context)
{
    uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
    if (in_range(address)) {
        const greg_t *registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
        std::string place = place_text(static_cast<uintptr_t>(registers[REG_RIP]));
        fprintf(stderr, "softgpu: %s: the host touches device memory at address %#lx\n",
                place.c_str(), address);
        _exit(SOFTGPU_EXIT);
    }
    sigaction(number, &others_action, nullptr); // the instruction faults again, for them
}

// Each time the memory is closed: others have theirs, and set it when they like (cmocka before each
// test).
void watch()
{
    struct sigaction action = {}, before;
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before);
    if (before.sa_sigaction != on_segv)
        others_action = before;
}

void range_create()
{
    void *p =
        mmap(nullptr, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("softgpu: no range of addresses for device memory");
        exit(SOFTGPU_EXIT);
    }
    range = next = reinterpret_cast<uintptr_t>(p);
}

void protect(int how)
{
    if (next > range)
        mprotect(reinterpret_cast<void *>(range), next - range, how);
}

uintptr_t rounded(uintptr_t a, uintptr_t unit)
{
    return (a + unit - 1) / unit * unit;
}

} // namespace

MemoryOpen::MemoryOpen()
{
    if (opened++ == 0)
        protect(PROT_READ | PROT_WRITE);
}

MemoryOpen::~MemoryOpen()
{
    if (--opened > 0)
        return;
    protect(PROT_NONE);
    watch();
}

const Allocation *memory_find(uintptr_t address)
{
    auto it = allocations.upper_bound(address);
    if (it == allocations.begin())
        return nullptr;
    --it;
    return address < it->second.end ? &it->second : nullptr;
}

Memory memory_kind(const void *p, size_t bytes)
{
    uintptr_t a = reinterpret_cast<uintptr_t>(p);
    const Allocation *found = memory_find(a);
    if (found != nullptr && bytes <= found->end - a)
        return found->host ? Memory::PINNED : Memory::DEVICE;
    return found != nullptr || in_range(a) ? Memory::STRAY : Memory::PAGEABLE;
}

bool memory_check(const void *p, size_t bytes, const std::string &what)
{
    if (bytes == 0 || memory_kind(p, bytes) != Memory::STRAY)
        return true;
    fault(cudaErrorIllegalAddress,
          what + text(": [%p, +%zu) is not inside an allocation", p, bytes));
    return false;
}

cudaError_t memory_create(void **out, size_t bytes)
{
    *out = nullptr;
    if (range == 0)
        range_create();
    if (bytes == 0)
        return cudaSuccess;
    if (used + bytes > limit)
        return cudaErrorMemoryAllocation;
    uintptr_t begin = next;
    next = rounded(begin + bytes + GAP, GAP);
    used += bytes;
    allocations[begin] = {begin, begin + bytes, false};
    MemoryOpen open;
    protect(PROT_READ | PROT_WRITE); // next has moved
    memset(reinterpret_cast<void *>(begin), POISON, bytes);
    *out = reinterpret_cast<void *>(begin);
    return cudaSuccess;
}

cudaError_t memory_create_host(void **out, size_t bytes)
{
    enum : size_t { PAGE = 4096 };
    *out = aligned_alloc(PAGE, rounded(bytes + 1, PAGE));
    if (*out == nullptr)
        return cudaErrorMemoryAllocation;
    memset(*out, POISON, bytes);
    uintptr_t begin = reinterpret_cast<uintptr_t>(*out);
    allocations[begin] = {begin, begin + bytes, true};
    return cudaSuccess;
}

static void give_back(const Allocation &a)
{
    if (a.host)
        return free(reinterpret_cast<void *>(a.begin));
    used -= a.end - a.begin;
    madvise(reinterpret_cast<void *>(a.begin), rounded(a.end - a.begin, GAP), MADV_DONTNEED);
}

cudaError_t memory_destroy(void *p, bool host)
{
    auto it = allocations.find(reinterpret_cast<uintptr_t>(p));
    if (p == nullptr)
        return cudaSuccess;
    if (it == allocations.end() || it->second.host != host)
        return cudaErrorInvalidValue;
    give_back(it->second);
    allocations.erase(it);
    return cudaSuccess;
}

void memory_free_all()
{
    for (const auto &[begin, allocation] : allocations)
        give_back(allocation);
    allocations.clear();
}

void memory_set_limit(size_t bytes)
{
    limit = bytes;
}

size_t memory_used()
{
    return used;
}

size_t memory_limit()
{
    return limit;
}

} // namespace softgpu

void softgpu_set_memory(size_t bytes)
{
    softgpu::memory_set_limit(bytes);
}

size_t softgpu_allocated(void)
{
    return softgpu::memory_used();
}
