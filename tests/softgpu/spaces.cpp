// Where a kernel's variables are: the module it was compiled into, and its thread-local memory.

#include <algorithm>
#include <link.h>

#include "race.h"

extern "C" {
extern thread_local unsigned char dynamic_shared[];
// Where the linker has put threadIdx and its like.
extern const char __start_softgpu_indices[], __stop_softgpu_indices[];
}

namespace softgpu
{

Spaces spaces;

namespace
{

struct Module {
    uintptr_t inside; // an address of it, to find it by
    uintptr_t low, high;
    uintptr_t shared;
    size_t shared_bytes;
};

extern "C" void *__tls_get_addr(void *); // makes this thread's copy, if it has none yet

int module_visit(dl_phdr_info *info, size_t, void *context)
{
    Module *module = static_cast<Module *>(context);
    uintptr_t low = UINTPTR_MAX, high = 0;
    size_t shared_bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part.p_vaddr;
        if (part.p_type == PT_TLS)
            shared_bytes = part.p_memsz;
        if (part.p_type != PT_LOAD)
            continue;
        low = std::min(low, begin);
        high = std::max<uintptr_t>(high, begin + part.p_memsz);
    }
    if (module->inside < low || module->inside >= high)
        return 0;
    *module = {module->inside, low, high, 0, shared_bytes};
    if (shared_bytes > 0) {
        size_t variable[2] = {info->dlpi_tls_modid, 0};
        module->shared = reinterpret_cast<uintptr_t>(__tls_get_addr(variable));
    }
    return 1;
}

const Module &module_of(const void *function)
{
    static thread_local Module last; // kernels of one module follow each other
    uintptr_t inside = reinterpret_cast<uintptr_t>(function);
    if (inside < last.low || inside >= last.high) {
        last = {inside, 0, 0, 0, 0};
        dl_iterate_phdr(module_visit, &last);
    }
    return last;
}

} // namespace

void spaces_fill(const void *function, size_t dynamic_bytes)
{
    const Module &module = module_of(function);
    spaces.shared = module.shared;
    spaces.shared_end = module.shared + module.shared_bytes;
    spaces.dynamic = reinterpret_cast<uintptr_t>(dynamic_shared);
    spaces.dynamic_end = spaces.dynamic + dynamic_bytes;
    spaces.module = module.low;
    spaces.module_end = module.high;
    spaces.indices = reinterpret_cast<uintptr_t>(__start_softgpu_indices);
    spaces.indices_end = reinterpret_cast<uintptr_t>(__stop_softgpu_indices);
}

} // namespace softgpu
