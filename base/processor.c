#include "base/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#include <string.h>

enum {
    OSXSAVE = 1U << 27,    // leaf 1, ecx
    AMX_BF16 = 1U << 22,   // leaf 7.0, edx
    AVX512_BF16 = 1U << 5, // leaf 7.1, eax
    // State that the system saves for programs: of AVX and AVX-512, of AMX's tiles.
    AVX512_STATE = 0xe6,
    TILE_STATE = 3U << 17
};

static uint32_t saved_state(void)
{
    unsigned eax, ebx, ecx, edx, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE))
        return 0;
    __asm__("xgetbv" : "=a"(eax), "=d"(high) : "c"(0));
    return eax;
}

static bool is_amd(void)
{
    unsigned eax, vendor[3];
    char text[sizeof vendor];
    if (!__get_cpuid(0, &eax, &vendor[0], &vendor[2], &vendor[1]))
        return false;
    memcpy(text, vendor, sizeof text);
    return memcmp(text, "AuthenticAMD", sizeof text) == 0;
}

bool processor_gains_by_bf16(void)
{
    unsigned eax, ebx, ecx, edx;
    const uint32_t saved = saved_state();
    if ((saved & AVX512_STATE) != AVX512_STATE || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return false;
    if (edx & AMX_BF16 && (saved & TILE_STATE) == TILE_STATE)
        return true;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && eax & AVX512_BF16 && is_amd();
}
#else
bool processor_gains_by_bf16(void)
{
    return false;
}
#endif
