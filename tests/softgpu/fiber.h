#pragma once
// A thread of a block: a stack of its own, and a switch of a dozen instructions (x86-64, System V;
// swapcontext enters the kernel each time and costs seven times as much).

#include <cstddef>
#include <cstdint>

namespace softgpu
{

enum : size_t { FIBER_STACK_BYTES = 256 * 1024 };

struct Stack {
    char *low;  // [low, low + FIBER_STACK_BYTES); a page that faults lies below
    void *kept; // stack pointer while it does not run
};

// A stack that begins at entry(), which never returns. Stacks are reused, never freed.
void stack_create(Stack *stack);
void stack_begin(Stack *stack, void (*entry)());

// Leaves the running stack, whose pointer is kept in *from, for `to`.
extern "C" void softgpu_switch(void **from, void *to);

} // namespace softgpu
