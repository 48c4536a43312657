#include "ops.h"

#include <cmath>

#include "../fault.h"

namespace softgpu
{

namespace
{

struct Roles {
    std::vector<cudnnBackendAttributeName_t> reads, writes;
};

Roles roles_of(const Desc &op)
{
    switch (op.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
                {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
                {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX}};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
                {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW}};
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        if (op.has(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC))
            return {{CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                     CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
                    {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC}};
        return {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                 CUDNN_ATTR_OPERATION_POINTWISE_TDESC},
                {CUDNN_ATTR_OPERATION_POINTWISE_YDESC}};
    case CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_GENSTATS_XDESC},
                {CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC}};
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC}, {CUDNN_ATTR_OPERATION_REDUCTION_YDESC}};
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC},
                {CUDNN_ATTR_OPERATION_MATMUL_CDESC}};
    case CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_RESAMPLE_FWD_XDESC},
                {CUDNN_ATTR_OPERATION_RESAMPLE_FWD_YDESC}};
    case CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR:
        return {{CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DYDESC},
                {CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DXDESC}};
    default:
        throw Refusal(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                      text("an operation is expected, not a descriptor of type %d", op.type));
    }
}

std::vector<Tensor> tensors_of(const Desc &op,
                               const std::vector<cudnnBackendAttributeName_t> &names)
{
    std::vector<Tensor> out;
    for (cudnnBackendAttributeName_t name : names)
        if (op.has(name))
            out.push_back(tensor_of(op.ref(name)));
    return out;
}

int64_t turned(const Order &order, int64_t i, int64_t count)
{
    return order.backward ? count - 1 - i : i;
}

// ---- sums and sums of squares over all but the channels

void genstats_check(const Desc &op)
{
    Tensor x = operation_reads(op)[0];
    for (const Tensor &out : operation_writes(op))
        if (x.dims.size() != 4 || out.dims != std::vector<int64_t>{1, x.dims[1], 1, 1})
            shapes_refuse("genstats", {x, out});
}

void genstats_run(const Desc &op, Env &env)
{
    Tensor x = operation_reads(op)[0];
    std::vector<Tensor> out = operation_writes(op);
    const Values &values = env.get(x);
    int64_t channels = x.dims[1], area = x.dims[2] * x.dims[3], count = x.dims[0] * area;
    Values sums(channels), squares(channels);
    for (int64_t c = 0; c < channels; c++) {
        Sum sum(env.order), square(env.order);
        for (int64_t i = 0; i < count; i++) {
            int64_t at = turned(env.order, i, count);
            float v = values[(at / area * channels + c) * area + at % area];
            sum.add(v);
            square.add(v * v);
        }
        sums[c] = sum.total();
        squares[c] = square.total();
    }
    env.put(out[0], std::move(sums));
    env.put(out[1], std::move(squares));
}

// ---- reductions: the dimensions that are 1 in y

void reduction_check(const Desc &op)
{
    Tensor x = operation_reads(op)[0], y = operation_writes(op)[0];
    if (x.dims.size() != y.dims.size())
        shapes_refuse("reduction", {x, y});
    for (size_t d = 0; d < x.dims.size(); d++)
        if (y.dims[d] != x.dims[d] && y.dims[d] != 1)
            shapes_refuse("reduction", {x, y});
    int64_t kind =
        op.ref(CUDNN_ATTR_OPERATION_REDUCTION_DESC)->integer(CUDNN_ATTR_REDUCTION_OPERATOR);
    if (kind == CUDNN_REDUCE_TENSOR_MUL || kind == CUDNN_REDUCE_TENSOR_MUL_NO_ZEROS)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED,
                      text("reduction operator %ld is not known here", kind));
}

float reduced(int64_t kind, const Values &terms, const Order &order)
{
    Sum sum(order);
    int64_t count = static_cast<int64_t>(terms.size());
    float least = HUGE_VALF, most = -HUGE_VALF, largest = 0.0f;
    for (int64_t i = 0; i < count; i++) {
        float v = terms[turned(order, i, count)];
        least = fminf(least, v);
        most = fmaxf(most, v);
        largest = fmaxf(largest, fabsf(v));
        sum.add(kind == CUDNN_REDUCE_TENSOR_NORM1   ? fabsf(v)
                : kind == CUDNN_REDUCE_TENSOR_NORM2 ? v * v
                                                    : v);
    }
    switch (kind) {
    case CUDNN_REDUCE_TENSOR_MIN:
        return least;
    case CUDNN_REDUCE_TENSOR_MAX:
        return most;
    case CUDNN_REDUCE_TENSOR_AMAX:
        return largest;
    case CUDNN_REDUCE_TENSOR_AVG:
        return sum.total() / static_cast<float>(count);
    case CUDNN_REDUCE_TENSOR_NORM2:
        return sqrtf(sum.total());
    default:
        return sum.total();
    }
}

void reduction_run(const Desc &op, Env &env)
{
    Tensor x = operation_reads(op)[0], y = operation_writes(op)[0];
    int64_t kind =
        op.ref(CUDNN_ATTR_OPERATION_REDUCTION_DESC)->integer(CUDNN_ATTR_REDUCTION_OPERATOR);
    const Values &values = env.get(x);
    std::vector<Values> terms(y.count());
    for (int64_t i = 0; i < x.count(); i++)
        terms[broadcast_index(y, x.dims, i)].push_back(values[i]);
    Values out;
    for (const Values &term : terms)
        out.push_back(reduced(kind, term, env.order));
    env.put(y, std::move(out));
}

// ---- C[B, M, N] = A[B, M, K] B[B, K, N]

void matmul_check(const Desc &op)
{
    std::vector<Tensor> in = operation_reads(op);
    Tensor a = in[0], b = in[1], c = operation_writes(op)[0];
    bool fits = a.dims.size() == 3 && b.dims.size() == 3 && c.dims.size() == 3 &&
                a.dims[2] == b.dims[1] && a.dims[1] == c.dims[1] && b.dims[2] == c.dims[2] &&
                (a.dims[0] == c.dims[0] || a.dims[0] == 1) &&
                (b.dims[0] == c.dims[0] || b.dims[0] == 1);
    if (!fits)
        shapes_refuse("matmul", {a, b, c});
    if (op.ref(CUDNN_ATTR_OPERATION_MATMUL_DESC)->integer(CUDNN_ATTR_MATMUL_COMP_TYPE) !=
        CUDNN_DATA_FLOAT)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "matmuls compute in f32 here");
}

float matmul_factor(const Tensor &tensor, float v, const Order &order)
{
    return order.tf32 && tensor.type == CUDNN_DATA_FLOAT ? tf32_round(v) : v;
}

void matmul_run(const Desc &op, Env &env)
{
    std::vector<Tensor> in = operation_reads(op);
    Tensor a = in[0], b = in[1], c = operation_writes(op)[0];
    const Values &av = env.get(a), &bv = env.get(b);
    int64_t rows = c.dims[1], columns = c.dims[2], inner = a.dims[2];
    Values out(c.count());
    for (int64_t i = 0; i < c.count(); i++) {
        int64_t batch = i / (rows * columns), row = i / columns % rows, column = i % columns;
        int64_t a0 = (a.dims[0] == 1 ? 0 : batch) * rows * inner + row * inner;
        int64_t b0 = (b.dims[0] == 1 ? 0 : batch) * inner * columns + column;
        Sum sum(env.order);
        for (int64_t j = 0; j < inner; j++) {
            int64_t k = turned(env.order, j, inner);
            sum.add(matmul_factor(a, av[a0 + k], env.order) *
                    matmul_factor(b, bv[b0 + k * columns], env.order));
        }
        out[i] = sum.total();
    }
    env.put(c, std::move(out));
}

// ---- average pooling

struct Pool {
    std::vector<int64_t> window, stride, pre, post;
    bool count_padding;
};

Pool pool_of(const Desc &desc)
{
    return {desc.integers(CUDNN_ATTR_RESAMPLE_WINDOW_DIMS),
            desc.integers(CUDNN_ATTR_RESAMPLE_STRIDES),
            desc.integers(CUDNN_ATTR_RESAMPLE_PRE_PADDINGS),
            desc.integers(CUDNN_ATTR_RESAMPLE_POST_PADDINGS),
            desc.integer(CUDNN_ATTR_RESAMPLE_MODE) == CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING};
}

const Desc &pool_desc(const Desc &op)
{
    return *op.ref(op.type == CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR
                       ? CUDNN_ATTR_OPERATION_RESAMPLE_FWD_DESC
                       : CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DESC);
}

// The picture's tensor and the smaller one, forward or backward.
void pool_tensors(const Desc &op, Tensor *large, Tensor *small)
{
    *large = operation_reads(op)[0];
    *small = operation_writes(op)[0];
    if (op.type == CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR)
        std::swap(*large, *small);
}

void pool_check(const Desc &op)
{
    Tensor large, small;
    pool_tensors(op, &large, &small);
    const Desc &desc = pool_desc(op);
    int64_t mode = desc.integer(CUDNN_ATTR_RESAMPLE_MODE);
    if (mode != CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING &&
        mode != CUDNN_RESAMPLE_AVGPOOL_EXCLUDE_PADDING)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED,
                      text("resample mode %ld is not known here", mode));
    Pool pool = pool_of(desc);
    bool fits = large.dims.size() == 4 && small.dims.size() == 4 &&
                desc.integer(CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS) == 2 &&
                large.dims[0] == small.dims[0] && large.dims[1] == small.dims[1];
    for (size_t d = 0; d < 2 && fits; d++)
        fits = (large.dims[d + 2] + pool.pre[d] + pool.post[d] - pool.window[d]) / pool.stride[d] +
                   1 ==
               small.dims[d + 2];
    if (!fits)
        shapes_refuse("resample", {large, small});
}

// Calls visit(index in the picture, index in the output, weight) for every pair that meets.
template <typename Visit>
void pool_pairs(const Pool &pool, const Tensor &large, const Tensor &small, Visit visit)
{
    int64_t height = large.dims[2], width = large.dims[3];
    for (int64_t i = 0; i < small.count(); i++) {
        int64_t x0 = i % small.dims[3] * pool.stride[1] - pool.pre[1];
        int64_t y0 = i / small.dims[3] % small.dims[2] * pool.stride[0] - pool.pre[0];
        int64_t plane = i / (small.dims[2] * small.dims[3]) * height * width;
        int64_t ya = std::max<int64_t>(y0, 0), yb = std::min(y0 + pool.window[0], height);
        int64_t xa = std::max<int64_t>(x0, 0), xb = std::min(x0 + pool.window[1], width);
        int64_t count =
            pool.count_padding ? pool.window[0] * pool.window[1] : (yb - ya) * (xb - xa);
        for (int64_t y = ya; y < yb; y++)
            for (int64_t x = xa; x < xb; x++)
                visit(plane + y * width + x, i, 1.0f / static_cast<float>(count));
    }
}

void pool_run(const Desc &op, Env &env)
{
    Tensor large, small;
    pool_tensors(op, &large, &small);
    bool forward = op.type == CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR;
    const Values &in = env.get(forward ? large : small);
    Values out(forward ? small.count() : large.count());
    pool_pairs(pool_of(pool_desc(op)), large, small, [&](int64_t a, int64_t b, float weight) {
        if (forward)
            out[b] += in[a] * weight;
        else
            out[a] += in[b] * weight;
    });
    env.put(forward ? small : large, std::move(out));
}

// ---- the table

struct Loops {
    void (*check)(const Desc &op);
    void (*run)(const Desc &op, Env &env);
};

const std::map<int, Loops> OPERATIONS = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, {convolution_check, convolution_run}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     {convolution_check, convolution_run}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     {convolution_check, convolution_run}},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, {pointwise_check, pointwise_run}},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, {genstats_check, genstats_run}},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, {reduction_check, reduction_run}},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, {matmul_check, matmul_run}},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR, {pool_check, pool_run}},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR, {pool_check, pool_run}},
};

} // namespace

std::vector<Tensor> operation_reads(const Desc &op)
{
    return tensors_of(op, roles_of(op).reads);
}

std::vector<Tensor> operation_writes(const Desc &op)
{
    return tensors_of(op, roles_of(op).writes);
}

void operation_finalize(const Desc &desc)
{
    auto it = OPERATIONS.find(desc.type);
    if (it != OPERATIONS.end())
        it->second.check(desc);
}

void operation_run(const Desc &op, Env &env)
{
    OPERATIONS.at(op.type).run(op, env);
}

void scaled_put(const Tensor &y, Values result, double alpha, double beta, Env &env)
{
    const Values *before = beta != 0.0 ? &env.get(y) : nullptr;
    for (size_t i = 0; i < result.size(); i++) {
        result[i] *= static_cast<float>(alpha);
        if (before != nullptr)
            result[i] += static_cast<float>(beta) * (*before)[i];
    }
    env.put(y, std::move(result));
}

void shapes_refuse(const char *what, const std::vector<Tensor> &tensors)
{
    std::string list;
    for (const Tensor &tensor : tensors) {
        list += text(" %ld: [", tensor.id);
        for (int64_t dim : tensor.dims)
            list += text(" %ld", dim);
        list += " ]";
    }
    throw Refusal(CUDNN_STATUS_BAD_PARAM,
                  std::string(what) + ": the tensors do not fit each other:" + list);
}

} // namespace softgpu
