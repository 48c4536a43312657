#pragma once
// Misuse: one line that says what happened and where in the source, and what becomes of it.

#include <cstdint>
#include <cuda_runtime_api.h>
#include <string>

namespace softgpu
{

// A place in the source, as a string literal's file and a line.
struct Place {
    const char *file;
    int line;
};
std::string place_text(Place place); // "kernels/update.cu:40"
// The same of machine code, by addr2line: needs -g1. "module+0x12af" where that fails.
std::string place_text(uintptr_t pc);
struct Code {
    std::string function, place;
};
Code code_at(uintptr_t pc);

// Prints "softgpu: <text>" and ends the process, or keeps it as the sticky error (softgpu.h).
void fault(cudaError_t code, const std::string &text);
// The error that every call returns from now on; cudaSuccess when there is none.
cudaError_t fault_sticky();
void fault_forget();

// printf to a string.
std::string text(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace softgpu
