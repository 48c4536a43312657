// What -fsanitize=thread and -fsanitize=alignment,bounds-strict,… make kernels call: before each
// access to memory that other threads could see, and where the language forbids what is about to
// happen. The sanitizers' own libraries are not linked.

#include <cstdint>

#include "block.h"
#include "race.h"

using namespace softgpu;

#define HERE (reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - 1)
#define ADDRESS reinterpret_cast<uintptr_t>(p)

extern "C" {
void __tsan_init()
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit()
{
}

#define ACCESS(name, bytes)                                                                        \
    void __tsan_##name##read##bytes(void *p)                                                       \
    {                                                                                              \
        access_check(ADDRESS, bytes, Access::READ, HERE);                                          \
    }                                                                                              \
    void __tsan_##name##write##bytes(void *p)                                                      \
    {                                                                                              \
        access_check(ADDRESS, bytes, Access::WRITE, HERE);                                         \
    }
#define ACCESSES(name) ACCESS(name, 2) ACCESS(name, 4) ACCESS(name, 8) ACCESS(name, 16)
ACCESSES()
ACCESS(, 1)
ACCESSES(unaligned_)
ACCESSES(volatile_)
ACCESS(volatile_, 1)

void __tsan_read_range(void *p, size_t bytes)
{
    access_check(ADDRESS, bytes, Access::READ, HERE);
}
void __tsan_write_range(void *p, size_t bytes)
{
    access_check(ADDRESS, bytes, Access::WRITE, HERE);
}

// Each record begins with the place.
struct SanitizerPlace {
    const char *file;
    uint32_t line, column;
};

static void undefined(const SanitizerPlace *at, cudaError_t code, const char *what)
{
    code_fault(code, place_text(Place{at->file, static_cast<int>(at->line)}), what);
}

void __ubsan_handle_type_mismatch_v1(SanitizerPlace *at, uintptr_t address)
{
    undefined(at, cudaErrorMisalignedAddress,
              address == 0 ? "access through a null pointer"
                           : text("misaligned access at address %#lx", address).c_str());
}
void __ubsan_handle_out_of_bounds(SanitizerPlace *at, uintptr_t index)
{
    undefined(at, cudaErrorIllegalAddress,
              text("out of bounds: index %ld of an array", static_cast<long>(index)).c_str());
}
void __ubsan_handle_shift_out_of_bounds(SanitizerPlace *at)
{
    undefined(at, cudaErrorLaunchFailure, "shift by too much, or of a negative number");
}
void __ubsan_handle_divrem_overflow(SanitizerPlace *at)
{
    undefined(at, cudaErrorLaunchFailure, "integer division by zero, or overflow");
}
void __ubsan_handle_builtin_unreachable(SanitizerPlace *at)
{
    undefined(at, cudaErrorLaunchFailure, "the end of a function that returns a value");
}
} // extern "C"
