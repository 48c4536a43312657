#pragma once
// Eight channels of one pixel at a time: 16 bytes of bf16 or f16, or 32 of f32, computed with in
// f32.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>

#include "models/cuda/kernels/element.h"

__device__ static inline void unit_load(float (&v)[CHANNEL_UNIT], const float *p)
{
    const float4 *wide = reinterpret_cast<const float4 *>(p);
    float4 low = wide[0], high = wide[1];
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

__device__ static inline void unit_load(float (&v)[CHANNEL_UNIT], const __nv_bfloat16 *p)
{
    uint4 raw = *reinterpret_cast<const uint4 *>(p);
    __nv_bfloat16 narrow[CHANNEL_UNIT];
    memcpy(static_cast<void *>(narrow), &raw, sizeof(raw));
    for (int i = 0; i < CHANNEL_UNIT; i++)
        v[i] = __bfloat162float(narrow[i]);
}

__device__ static inline void unit_load(float (&v)[CHANNEL_UNIT], const __half *p)
{
    uint4 raw = *reinterpret_cast<const uint4 *>(p);
    __half narrow[CHANNEL_UNIT];
    memcpy(static_cast<void *>(narrow), &raw, sizeof(raw));
    for (int i = 0; i < CHANNEL_UNIT; i++)
        v[i] = __half2float(narrow[i]);
}

__device__ static inline void unit_store(float *p, const float (&v)[CHANNEL_UNIT])
{
    float4 *wide = reinterpret_cast<float4 *>(p);
    wide[0] = make_float4(v[0], v[1], v[2], v[3]);
    wide[1] = make_float4(v[4], v[5], v[6], v[7]);
}

__device__ static inline void unit_store(__nv_bfloat16 *p, const float (&v)[CHANNEL_UNIT])
{
    __nv_bfloat16 narrow[CHANNEL_UNIT];
    for (int i = 0; i < CHANNEL_UNIT; i++)
        narrow[i] = __float2bfloat16_rn(v[i]);
    uint4 raw;
    memcpy(&raw, narrow, sizeof(raw));
    *reinterpret_cast<uint4 *>(p) = raw;
}

__device__ static inline void unit_store(__half *p, const float (&v)[CHANNEL_UNIT])
{
    __half narrow[CHANNEL_UNIT];
    for (int i = 0; i < CHANNEL_UNIT; i++)
        narrow[i] = __float2half_rn(v[i]);
    uint4 raw;
    memcpy(&raw, narrow, sizeof(raw));
    *reinterpret_cast<uint4 *>(p) = raw;
}

__device__ static inline float element_get(float v)
{
    return v;
}

__device__ static inline float element_get(__nv_bfloat16 v)
{
    return __bfloat162float(v);
}

__device__ static inline float element_get(__half v)
{
    return __half2float(v);
}

__device__ static inline void element_put(float *p, float v)
{
    *p = v;
}

__device__ static inline void element_put(__nv_bfloat16 *p, float v)
{
    *p = __float2bfloat16_rn(v);
}

__device__ static inline void element_put(__half *p, float v)
{
    *p = __float2half_rn(v);
}

// NaN stays NaN: divergence must not hide.
__device__ static inline float relu_of(float v)
{
    return v < 0.0f ? 0.0f : v;
}

// Calls `function<T>(…)` for the element type, which is float, __nv_bfloat16 or __half.
#define FOR_ELEMENT(type, function, ...)                                                           \
    ((type) == ELEMENT_BF16  ? function<__nv_bfloat16>(__VA_ARGS__)                                \
     : (type) == ELEMENT_F16 ? function<__half>(__VA_ARGS__)                                       \
                             : function<float>(__VA_ARGS__))
