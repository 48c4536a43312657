#include "fiber.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

// Keeps what the calling convention lets a function rely on: six registers and the stack pointer.
asm(R"(
    .text
    .globl softgpu_switch
    .type softgpu_switch, @function
softgpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size softgpu_switch, .-softgpu_switch
)");

namespace softgpu
{

void stack_create(Stack *stack)
{
    enum : size_t { PAGE = 4096 };
    void *p = mmap(nullptr, PAGE + FIBER_STACK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, PAGE, PROT_NONE) != 0) {
        perror("softgpu: no memory for a thread's stack");
        abort();
    }
    stack->low = static_cast<char *>(p) + PAGE;
}

void stack_begin(Stack *stack, void (*entry)())
{
    // A function expects rsp to be 8 beyond a multiple of 16 when it is entered: the switch takes
    // six registers and the return address off, from an address that is a multiple of 16.
    void **top = reinterpret_cast<void **>(stack->low + FIBER_STACK_BYTES);
    top[-2] = reinterpret_cast<void *>(entry);
    stack->kept = top - 2 - 6;
}

} // namespace softgpu
