#pragma once
// Tensors as operations see them: f32 values in row-major order of their dimensions, whatever the
// strides and the type in memory.

#include "desc.h"

#include <functional>

namespace softgpu
{

struct Tensor {
    int64_t id;
    cudnnDataType_t type;
    std::vector<int64_t> dims, strides;
    bool is_virtual, by_value;
    int64_t alignment;

    int64_t count() const;
    size_t bytes() const; // from the first to the last element
};
Tensor tensor_of(const DescRef &desc);

using Values = std::vector<float>;

// A value rounded to what the type can hold.
float type_round(cudnnDataType_t type, float v);
// Rounded to 10 bits of fraction, as tensor cores take f32.
float tf32_round(float v);

Values tensor_load(const Tensor &tensor, const void *from);
void tensor_store(const Tensor &tensor, const Values &values, void *to);

// The index into `tensor`'s values that index `at` of `dims` reads, where dimensions of 1 repeat.
int64_t broadcast_index(const Tensor &tensor, const std::vector<int64_t> &dims, int64_t at);

} // namespace softgpu
