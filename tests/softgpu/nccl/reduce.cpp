#include "reduce.h"

#include <algorithm>
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace softgpu
{

namespace
{

// In what type values are combined, and how they are read and written.
template <typename T> struct Wide {
    using type = T;
    static T load(T v)
    {
        return v;
    }
    static T store(T v)
    {
        return v;
    }
};
template <> struct Wide<__half> {
    using type = float;
    static float load(__half v)
    {
        return __half2float(v);
    }
    static __half store(float v)
    {
        return __float2half_rn(v);
    }
};
template <> struct Wide<__nv_bfloat16> {
    using type = float;
    static float load(__nv_bfloat16 v)
    {
        return __bfloat162float(v);
    }
    static __nv_bfloat16 store(float v)
    {
        return __float2bfloat16_rn(v);
    }
};

template <typename V> V combine(V a, V b, ncclRedOp_t operation)
{
    switch (operation) {
    case ncclProd:
        return static_cast<V>(a * b);
    case ncclMax:
        return std::max(a, b);
    case ncclMin:
        return std::min(a, b);
    default:
        return static_cast<V>(a + b);
    }
}

template <typename T>
void reduce(void *to, const std::vector<const char *> &from, size_t count, ncclRedOp_t operation)
{
    using W = Wide<T>;
    using V = typename W::type;
    T *out = static_cast<T *>(to);
    for (size_t i = 0; i < count; i++) {
        T sum = reinterpret_cast<const T *>(from[0])[i];
        for (size_t r = 1; r < from.size(); r++) {
            T v = reinterpret_cast<const T *>(from[r])[i];
            sum = W::store(combine<V>(W::load(sum), W::load(v), operation));
        }
        if (operation == ncclAvg)
            sum = W::store(static_cast<V>(W::load(sum) / static_cast<V>(from.size())));
        out[i] = sum;
    }
}

} // namespace

size_t nccl_type_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 0;
    }
}

bool nccl_operation_known(ncclRedOp_t operation)
{
    return operation >= ncclSum && operation <= ncclAvg;
}

void nccl_reduce(void *to, const std::vector<const char *> &from, size_t count, ncclDataType_t type,
                 ncclRedOp_t operation)
{
    switch (type) {
    case ncclInt8:
        return reduce<int8_t>(to, from, count, operation);
    case ncclUint8:
        return reduce<uint8_t>(to, from, count, operation);
    case ncclInt32:
        return reduce<int32_t>(to, from, count, operation);
    case ncclUint32:
        return reduce<uint32_t>(to, from, count, operation);
    case ncclInt64:
        return reduce<int64_t>(to, from, count, operation);
    case ncclUint64:
        return reduce<uint64_t>(to, from, count, operation);
    case ncclFloat16:
        return reduce<__half>(to, from, count, operation);
    case ncclBfloat16:
        return reduce<__nv_bfloat16>(to, from, count, operation);
    case ncclFloat64:
        return reduce<double>(to, from, count, operation);
    default:
        return reduce<float>(to, from, count, operation);
    }
}

} // namespace softgpu
