#pragma once
// What a .cu file finds in place of nvcc's built-ins when a C++ compiler compiles it for the
// software GPU: included before anything else. The toolkit's own headers do the rest.

#define __shared__ thread_local
#define __launch_bounds__(...)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "block.h"
#include "launch.h"
#include "race.h"

// ---- who a thread is

extern "C" {
extern const uint3 threadIdx, blockIdx;
extern const dim3 blockDim, gridDim;
// All of `extern __shared__` (models/cuda/launch.cuh).
extern thread_local unsigned char dynamic_shared[];
}
static constexpr int warpSize = 32;

// ---- launching

template <typename... Parameters> struct softgpu_call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;

    static void run(const void *self)
    {
        const softgpu_call *call = static_cast<const softgpu_call *>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <typename... Parameters, typename... Arguments>
static inline cudaError_t softgpu_launch(const cudaLaunchConfig_t *config,
                                         void (*kernel)(Parameters...), Arguments &&...arguments)
{
    static_assert((std::is_trivially_copyable_v<Parameters> && ...));
    using Call = softgpu_call<Parameters...>;
    Call call{kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
    return softgpu::kernel_submit(*config, reinterpret_cast<const void *>(kernel), &call,
                                  sizeof(call), Call::run);
}
#define cudaLaunchKernelEx softgpu_launch

// ---- waiting for others. The place in the source is the caller's.

#define SOFTGPU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SOFTGPU_PLACE (softgpu::Place{file, line})
// Not instrumented: it calls the checks itself, where they are due.
#define SOFTGPU_PLAIN __attribute__((no_sanitize("thread"))) static inline

SOFTGPU_PLAIN void __syncthreads(SOFTGPU_HERE)
{
    softgpu::block_meet(0, SOFTGPU_PLACE);
}
SOFTGPU_PLAIN int __syncthreads_count(int predicate, SOFTGPU_HERE)
{
    return softgpu::block_meet(predicate, SOFTGPU_PLACE);
}
SOFTGPU_PLAIN int __syncthreads_or(int predicate, SOFTGPU_HERE)
{
    return softgpu::block_meet(predicate, SOFTGPU_PLACE) != 0;
}
SOFTGPU_PLAIN int __syncthreads_and(int predicate, SOFTGPU_HERE)
{
    return softgpu::block_meet(!predicate, SOFTGPU_PLACE) == 0;
}
SOFTGPU_PLAIN void __syncwarp(unsigned mask = 0xffffffffu, SOFTGPU_HERE)
{
    softgpu::warp_meet(softgpu::Meet::SYNC, mask, 0, 0, SOFTGPU_PLACE);
}
SOFTGPU_PLAIN unsigned __ballot_sync(unsigned mask, int predicate, SOFTGPU_HERE)
{
    return (unsigned)softgpu::warp_meet(softgpu::Meet::BALLOT, mask, predicate != 0, 0,
                                        SOFTGPU_PLACE);
}
SOFTGPU_PLAIN int __any_sync(unsigned mask, int predicate, SOFTGPU_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}
SOFTGPU_PLAIN int __all_sync(unsigned mask, int predicate, SOFTGPU_HERE)
{
    return __ballot_sync(mask, !predicate, file, line) == 0;
}
SOFTGPU_PLAIN unsigned __reduce_add_sync(unsigned mask, unsigned v, SOFTGPU_HERE)
{
    return (unsigned)softgpu::warp_meet(softgpu::Meet::ADD, mask, v, 0, SOFTGPU_PLACE);
}
SOFTGPU_PLAIN unsigned __reduce_min_sync(unsigned mask, unsigned v, SOFTGPU_HERE)
{
    return (unsigned)softgpu::warp_meet(softgpu::Meet::MIN, mask, v, 0, SOFTGPU_PLACE);
}
SOFTGPU_PLAIN unsigned __reduce_max_sync(unsigned mask, unsigned v, SOFTGPU_HERE)
{
    return (unsigned)softgpu::warp_meet(softgpu::Meet::MAX, mask, v, 0, SOFTGPU_PLACE);
}

// `source` is a lane of the segment of `width` lanes that the caller is in; outside it, one's own.
template <typename T>
SOFTGPU_PLAIN T softgpu_shuffle(unsigned mask, T value, int source, int width, softgpu::Place place)
{
    static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
    int lane = softgpu::thread_lane(), first = lane / width * width;
    if (source < first || source >= first + width)
        source = lane;
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(value));
    bits = softgpu::warp_meet(softgpu::Meet::SHUFFLE, mask, bits, source, place);
    memcpy(&value, &bits, sizeof(value));
    return value;
}
template <typename T>
SOFTGPU_PLAIN T __shfl_sync(unsigned mask, T value, int source, int width = 32, SOFTGPU_HERE)
{
    int first = softgpu::thread_lane() / width * width;
    return softgpu_shuffle(mask, value, first + (source & (width - 1)), width, SOFTGPU_PLACE);
}
template <typename T>
SOFTGPU_PLAIN T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SOFTGPU_HERE)
{
    return softgpu_shuffle(mask, value, softgpu::thread_lane() - (int)delta, width, SOFTGPU_PLACE);
}
template <typename T>
SOFTGPU_PLAIN T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 SOFTGPU_HERE)
{
    return softgpu_shuffle(mask, value, softgpu::thread_lane() + (int)delta, width, SOFTGPU_PLACE);
}
template <typename T>
SOFTGPU_PLAIN T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SOFTGPU_HERE)
{
    return softgpu_shuffle(mask, value, softgpu::thread_lane() ^ bits, width, SOFTGPU_PLACE);
}

SOFTGPU_PLAIN void __threadfence()
{
    softgpu::thread_fence();
}
SOFTGPU_PLAIN void __threadfence_block()
{
}

// ---- atomics: threads run one at a time, so that reading and writing back is one

template <typename T, typename Next> SOFTGPU_PLAIN T softgpu_atomic(T *p, Next next)
{
    uintptr_t pc = reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - 1;
    softgpu::access_check(reinterpret_cast<uintptr_t>(p), sizeof(T), softgpu::Access::ATOMIC, pc);
    T old = *p;
    *p = next(old);
    return old;
}
#define SOFTGPU_ATOMIC(name, expression)                                                           \
    template <typename T>                                                                          \
    __attribute__((no_sanitize("thread"), noinline)) static T name(T *p, std::common_type_t<T> v)  \
    {                                                                                              \
        return softgpu_atomic(p, [v](T old) { return static_cast<T>(expression); });               \
    }
SOFTGPU_ATOMIC(atomicAdd, old + v)
SOFTGPU_ATOMIC(atomicSub, old - v)
SOFTGPU_ATOMIC(atomicMax, old > v ? old : v)
SOFTGPU_ATOMIC(atomicMin, old < v ? old : v)
SOFTGPU_ATOMIC(atomicExch, (static_cast<void>(old), v))
SOFTGPU_ATOMIC(atomicAnd, old &v)
SOFTGPU_ATOMIC(atomicOr, old | v)
SOFTGPU_ATOMIC(atomicXor, old ^ v)
SOFTGPU_ATOMIC(atomicInc, old >= v ? 0 : old + 1)

template <typename T>
__attribute__((no_sanitize("thread"), noinline)) static T
atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> v)
{
    return softgpu_atomic(p, [=](T old) { return old == expected ? v : old; });
}

// ---- arithmetic that the toolkit's headers leave to nvcc

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
static inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{
    // The product is exact in double, the sum is rounded there to 53 bits, then to 8: the second
    // rounding can only differ from the true one where the first met a tie of the second.
    return __double2bfloat16((double)__bfloat162float(a) * (double)__bfloat162float(b) +
                             (double)__bfloat162float(c));
}
static inline __half __hfma(__half a, __half b, __half c)
{
    return __double2half((double)__half2float(a) * (double)__half2float(b) +
                         (double)__half2float(c));
}
static inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return __half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
// The fast ones of the device: here as good as the slow ones.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __fdividef(x, y) ((x) / (y))
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
static inline int __float_as_int(float x)
{
    int bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}
static inline float __int_as_float(int bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}
