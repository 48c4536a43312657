#include "tensor.h"

#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../fault.h"

namespace softgpu
{

namespace
{

size_t type_bytes(cudnnDataType_t type)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
    case CUDNN_DATA_INT32:
        return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
        return 2;
    case CUDNN_DATA_BOOLEAN:
    case CUDNN_DATA_INT8:
    case CUDNN_DATA_UINT8:
        return 1;
    default:
        return 0; // not known here
    }
}

template <typename T> T read(const char *from)
{
    T v;
    memcpy(&v, from, sizeof(v));
    return v;
}

float element_load(cudnnDataType_t type, const char *from)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
        return read<float>(from);
    case CUDNN_DATA_HALF:
        return __half2float(read<__half>(from));
    case CUDNN_DATA_BFLOAT16:
        return __bfloat162float(read<__nv_bfloat16>(from));
    case CUDNN_DATA_INT32:
        return static_cast<float>(read<int32_t>(from));
    case CUDNN_DATA_INT8:
        return read<int8_t>(from);
    default:
        return read<uint8_t>(from);
    }
}

template <typename T> void write(char *to, T v)
{
    memcpy(to, &v, sizeof(v));
}

void element_store(cudnnDataType_t type, float v, char *to)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
        return write(to, v);
    case CUDNN_DATA_HALF:
        return write(to, __float2half_rn(v));
    case CUDNN_DATA_BFLOAT16:
        return write(to, __float2bfloat16_rn(v));
    case CUDNN_DATA_INT32:
        return write(to, static_cast<int32_t>(v));
    case CUDNN_DATA_INT8:
        return write(to, static_cast<int8_t>(v));
    default:
        return write(to, static_cast<uint8_t>(v));
    }
}

// Calls visit(index, offset in elements) for every element, in row-major order.
void for_each(const Tensor &tensor, const std::function<void(int64_t, int64_t)> &visit)
{
    std::vector<int64_t> at(tensor.dims.size(), 0);
    int64_t offset = 0, count = tensor.count();
    for (int64_t i = 0; i < count; i++) {
        visit(i, offset);
        for (size_t d = tensor.dims.size(); d-- > 0;) {
            offset += tensor.strides[d];
            if (++at[d] < tensor.dims[d])
                break;
            offset -= at[d] * tensor.strides[d];
            at[d] = 0;
        }
    }
}

} // namespace

int64_t Tensor::count() const
{
    int64_t n = 1;
    for (int64_t dim : dims)
        n *= dim;
    return n;
}

size_t Tensor::bytes() const
{
    int64_t last = 0;
    for (size_t d = 0; d < dims.size(); d++)
        last += (dims[d] - 1) * strides[d];
    return static_cast<size_t>(last + 1) * type_bytes(type);
}

Tensor tensor_of(const DescRef &desc)
{
    if (desc->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        throw Refusal(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                      text("a tensor is expected, not a descriptor of type %d", desc->type));
    return {desc->integer(CUDNN_ATTR_TENSOR_UNIQUE_ID),
            static_cast<cudnnDataType_t>(desc->integer(CUDNN_ATTR_TENSOR_DATA_TYPE)),
            desc->integers(CUDNN_ATTR_TENSOR_DIMENSIONS),
            desc->integers(CUDNN_ATTR_TENSOR_STRIDES),
            desc->integer(CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0,
            desc->integer(CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0,
            desc->integer(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)};
}

void tensor_finalize(const Desc &desc)
{
    Tensor t = tensor_of(std::make_shared<Desc>(desc));
    if (t.dims.size() != t.strides.size() || t.dims.size() < 3)
        throw Refusal(CUDNN_STATUS_BAD_PARAM, text("tensor %ld: %zu dimensions, %zu strides", t.id,
                                                   t.dims.size(), t.strides.size()));
    for (size_t d = 0; d < t.dims.size(); d++)
        if (t.dims[d] < 1 || t.strides[d] < 1)
            throw Refusal(CUDNN_STATUS_BAD_PARAM,
                          text("tensor %ld: dimension %zu is %ld with stride %ld", t.id, d,
                               t.dims[d], t.strides[d]));
    if (type_bytes(t.type) == 0)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE,
                      text("tensor %ld: data type %d", t.id, t.type));
    if (t.alignment < 1 || (t.alignment & (t.alignment - 1)) != 0 ||
        static_cast<size_t>(t.alignment) < type_bytes(t.type))
        throw Refusal(CUDNN_STATUS_BAD_PARAM, text("tensor %ld: alignment %ld", t.id, t.alignment));
}

float type_round(cudnnDataType_t type, float v)
{
    char bytes[4];
    element_store(type, v, bytes);
    return element_load(type, bytes);
}

float tf32_round(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    bits = (bits + 0x0fffu + (bits >> 13 & 1u)) & ~0x1fffu; // to nearest, ties to even
    memcpy(&v, &bits, sizeof(v));
    return v;
}

Values tensor_load(const Tensor &tensor, const void *from)
{
    Values values(tensor.count());
    const char *base = static_cast<const char *>(from);
    size_t size = type_bytes(tensor.type);
    for_each(tensor, [&](int64_t i, int64_t offset) {
        values[i] = element_load(tensor.type, base + offset * size);
    });
    return values;
}

void tensor_store(const Tensor &tensor, const Values &values, void *to)
{
    char *base = static_cast<char *>(to);
    size_t size = type_bytes(tensor.type);
    for_each(tensor, [&](int64_t i, int64_t offset) {
        element_store(tensor.type, values[i], base + offset * size);
    });
}

int64_t broadcast_index(const Tensor &tensor, const std::vector<int64_t> &dims, int64_t at)
{
    int64_t index = 0, step = 1;
    for (size_t d = dims.size(); d-- > 0;) {
        int64_t here = at % dims[d];
        at /= dims[d];
        if (tensor.dims[d] != 1)
            index += here * step;
        step *= tensor.dims[d];
    }
    return index;
}

} // namespace softgpu
