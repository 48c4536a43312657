// Element by element, with broadcasting.

#include <cmath>

#include "../fault.h"
#include "ops.h"

namespace softgpu
{

namespace
{

struct Parameters {
    float lower, upper, slope, elu, swish;
};

Parameters parameters_of(const Desc &pw)
{
    return {static_cast<float>(pw.number(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, 0.0)),
            static_cast<float>(pw.number(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, HUGE_VAL)),
            static_cast<float>(pw.number(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, 0.0)),
            static_cast<float>(pw.number(CUDNN_ATTR_POINTWISE_ELU_ALPHA, 1.0)),
            static_cast<float>(pw.number(CUDNN_ATTR_POINTWISE_SWISH_BETA, 1.0))};
}

float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

float relu(const Parameters &p, float x)
{
    if (x <= p.lower)
        return p.lower + p.slope * (x - p.lower);
    return x < p.upper ? x : p.upper;
}

using Unary = float (*)(const Parameters &, float x);
using Binary = float (*)(const Parameters &, float x, float b);

Unary unary_of(int64_t mode)
{
    using P = const Parameters &;
    static const std::map<int64_t, Unary> all = {
        {CUDNN_POINTWISE_IDENTITY, [](P, float x) { return x; }},
        {CUDNN_POINTWISE_NEG, [](P, float x) { return -x; }},
        {CUDNN_POINTWISE_ABS, [](P, float x) { return fabsf(x); }},
        {CUDNN_POINTWISE_SQRT, [](P, float x) { return sqrtf(x); }},
        {CUDNN_POINTWISE_RSQRT, [](P, float x) { return 1.0f / sqrtf(x); }},
        {CUDNN_POINTWISE_RECIPROCAL, [](P, float x) { return 1.0f / x; }},
        {CUDNN_POINTWISE_EXP, [](P, float x) { return expf(x); }},
        {CUDNN_POINTWISE_LOG, [](P, float x) { return logf(x); }},
        {CUDNN_POINTWISE_RELU_FWD, relu},
        {CUDNN_POINTWISE_TANH_FWD, [](P, float x) { return tanhf(x); }},
        {CUDNN_POINTWISE_SIGMOID_FWD, [](P, float x) { return sigmoid(x); }},
        {CUDNN_POINTWISE_ELU_FWD, [](P p, float x) { return x > 0 ? x : p.elu * expm1f(x); }},
        {CUDNN_POINTWISE_SWISH_FWD, [](P p, float x) { return x * sigmoid(p.swish * x); }},
    };
    auto it = all.find(mode);
    return it == all.end() ? nullptr : it->second;
}

Binary binary_of(int64_t mode)
{
    using P = const Parameters &;
    static const std::map<int64_t, Binary> all = {
        {CUDNN_POINTWISE_ADD, [](P, float x, float b) { return x + b; }},
        {CUDNN_POINTWISE_SUB, [](P, float x, float b) { return x - b; }},
        {CUDNN_POINTWISE_MUL, [](P, float x, float b) { return x * b; }},
        {CUDNN_POINTWISE_DIV, [](P, float x, float b) { return x / b; }},
        {CUDNN_POINTWISE_MAX, [](P, float x, float b) { return x > b ? x : b; }},
        {CUDNN_POINTWISE_MIN, [](P, float x, float b) { return x < b ? x : b; }},
        {CUDNN_POINTWISE_ADD_SQUARE, [](P, float x, float b) { return x + b * b; }},
        {CUDNN_POINTWISE_CMP_EQ, [](P, float x, float b) { return x == b ? 1.0f : 0.0f; }},
        {CUDNN_POINTWISE_CMP_NEQ, [](P, float x, float b) { return x != b ? 1.0f : 0.0f; }},
        {CUDNN_POINTWISE_CMP_GT, [](P, float x, float b) { return x > b ? 1.0f : 0.0f; }},
        {CUDNN_POINTWISE_CMP_GE, [](P, float x, float b) { return x >= b ? 1.0f : 0.0f; }},
        {CUDNN_POINTWISE_CMP_LT, [](P, float x, float b) { return x < b ? 1.0f : 0.0f; }},
        {CUDNN_POINTWISE_CMP_LE, [](P, float x, float b) { return x <= b ? 1.0f : 0.0f; }},
    };
    auto it = all.find(mode);
    return it == all.end() ? nullptr : it->second;
}

// d loss / d x from d loss / d y and x, what went forward (for relu, what came out does as well).
Binary backward_of(int64_t mode)
{
    using P = const Parameters &;
    static const std::map<int64_t, Binary> all = {
        {CUDNN_POINTWISE_RELU_BWD,
         [](P p, float dy, float x) {
             return x <= p.lower ? dy * p.slope : x < p.upper ? dy : 0.0f;
         }},
        {CUDNN_POINTWISE_TANH_BWD,
         [](P, float dy, float x) { return dy * (1.0f - tanhf(x) * tanhf(x)); }},
        {CUDNN_POINTWISE_SIGMOID_BWD,
         [](P, float dy, float x) { return dy * sigmoid(x) * (1.0f - sigmoid(x)); }},
        {CUDNN_POINTWISE_ELU_BWD,
         [](P p, float dy, float x) { return x > 0 ? dy : dy * p.elu * expf(x); }},
        {CUDNN_POINTWISE_SWISH_BWD,
         [](P p, float dy, float x) {
             float s = sigmoid(p.swish * x);
             return dy * (s + p.swish * x * s * (1.0f - s));
         }},
    };
    auto it = all.find(mode);
    return it == all.end() ? nullptr : it->second;
}

int64_t mode_of(const Desc &op)
{
    return op.ref(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)->integer(CUDNN_ATTR_POINTWISE_MODE);
}

// The attributes a mode takes, its result's first.
std::vector<cudnnBackendAttributeName_t> roles_of(const Desc &op)
{
    int64_t mode = mode_of(op);
    if (unary_of(mode) != nullptr)
        return {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_POINTWISE_XDESC};
    if (binary_of(mode) != nullptr)
        return {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                CUDNN_ATTR_OPERATION_POINTWISE_BDESC};
    if (mode == CUDNN_POINTWISE_BINARY_SELECT)
        return {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
    if (backward_of(mode) == nullptr)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED,
                      text("pointwise mode %ld is not known here", mode));
    bool from_y = mode == CUDNN_POINTWISE_RELU_BWD && op.has(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    return {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC,
            from_y ? CUDNN_ATTR_OPERATION_POINTWISE_YDESC : CUDNN_ATTR_OPERATION_POINTWISE_XDESC};
}

} // namespace

void pointwise_check(const Desc &op)
{
    if (op.ref(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
            ->integer(CUDNN_ATTR_POINTWISE_MATH_PREC) != CUDNN_DATA_FLOAT)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "pointwise computes in f32 here");
    std::vector<Tensor> tensors;
    for (cudnnBackendAttributeName_t role : roles_of(op)) {
        if (!op.has(role))
            throw Refusal(CUDNN_STATUS_BAD_PARAM,
                          text("pointwise mode %ld: attribute %d is missing", mode_of(op), role));
        tensors.push_back(tensor_of(op.ref(role)));
        const std::vector<int64_t> &out = tensors[0].dims, &in = tensors.back().dims;
        if (in.size() != out.size())
            shapes_refuse("pointwise", tensors);
        for (size_t d = 0; d < in.size(); d++)
            if (in[d] != out[d] && in[d] != 1)
                shapes_refuse("pointwise", tensors);
    }
}

void pointwise_run(const Desc &op, Env &env)
{
    std::vector<Tensor> tensors;
    std::vector<const Values *> values = {nullptr};
    for (cudnnBackendAttributeName_t role : roles_of(op)) {
        tensors.push_back(tensor_of(op.ref(role)));
        if (tensors.size() > 1)
            values.push_back(&env.get(tensors.back()));
    }
    int64_t mode = mode_of(op);
    Parameters p = parameters_of(*op.ref(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR));
    float alpha1 = static_cast<float>(op.number(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, 1.0));
    float alpha2 = static_cast<float>(op.number(CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1.0));
    Unary unary = unary_of(mode);
    Binary binary = binary_of(mode), backward = backward_of(mode);
    Values out(tensors[0].count());
    for (int64_t i = 0; i < tensors[0].count(); i++) {
        float v[4] = {};
        for (size_t t = 1; t < tensors.size(); t++)
            v[t] = (*values[t])[broadcast_index(tensors[t], tensors[0].dims, i)];
        if (unary != nullptr)
            out[i] = unary(p, alpha1 * v[1]);
        else if (binary != nullptr)
            out[i] = binary(p, alpha1 * v[1], alpha2 * v[2]);
        else if (backward != nullptr)
            out[i] = backward(p, v[1], v[2]);
        else
            out[i] = v[3] != 0.0f ? v[1] : v[2];
    }
    env.put(tensors[0], std::move(out));
}

} // namespace softgpu
