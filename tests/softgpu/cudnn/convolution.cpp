// Convolution forward, and its gradients for data and filter: [N, C, H, W] with [K, C, R, S].

#include "../fault.h"
#include "ops.h"

namespace softgpu
{

namespace
{

struct Shape {
    int64_t n, c, h, w, k, r, s, p, q; // picture, filter and output extents
    int64_t stride[2], pre[2], post[2], dilation[2];
    bool flipped; // CUDNN_CONVOLUTION: the filter is mirrored
};

// Attributes by role: the operation's kinds number them differently.
struct Roles {
    cudnnBackendAttributeName_t alpha, beta, conv, x, w, y;
};

Roles roles_of(const Desc &op)
{
    switch (op.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
    default:
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};
    }
}

Shape shape_of(const Desc &op)
{
    Roles roles = roles_of(op);
    const Desc &conv = *op.ref(roles.conv);
    std::vector<int64_t> x = tensor_of(op.ref(roles.x)).dims, w = tensor_of(op.ref(roles.w)).dims,
                         y = tensor_of(op.ref(roles.y)).dims;
    Shape shape = {x[0], x[1], x[2], x[3], w[0], w[2], w[3], y[2], y[3], {}, {}, {}, {}, false};
    for (int d = 0; d < 2; d++) {
        shape.stride[d] = conv.integers(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)[d];
        shape.pre[d] = conv.integers(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)[d];
        shape.post[d] = conv.integers(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)[d];
        shape.dilation[d] = conv.integers(CUDNN_ATTR_CONVOLUTION_DILATIONS)[d];
    }
    shape.flipped = conv.integer(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CONVOLUTION;
    return shape;
}

int64_t extent(const Shape &f, int d, int64_t size, int64_t window)
{
    return (size + f.pre[d] + f.post[d] - f.dilation[d] * (window - 1) - 1) / f.stride[d] + 1;
}

// Index of the filter's element (k, c, r, s).
int64_t filter_at(const Shape &f, int64_t k, int64_t c, int64_t r, int64_t s)
{
    if (f.flipped) {
        r = f.r - 1 - r;
        s = f.s - 1 - s;
    }
    return ((k * f.c + c) * f.r + r) * f.s + s;
}

int64_t picture_at(const Shape &f, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return ((n * f.c + c) * f.h + h) * f.w + w;
}

int64_t output_at(const Shape &f, int64_t n, int64_t k, int64_t p, int64_t q)
{
    return ((n * f.k + k) * f.p + p) * f.q + q;
}

// Where output (p, q) reads the picture at window position (r, s); false: padding.
bool source(const Shape &f, int64_t p, int64_t q, int64_t r, int64_t s, int64_t *h, int64_t *w)
{
    *h = p * f.stride[0] - f.pre[0] + r * f.dilation[0];
    *w = q * f.stride[1] - f.pre[1] + s * f.dilation[1];
    return *h >= 0 && *h < f.h && *w >= 0 && *w < f.w;
}

// Which output reads picture row (or column) `at` at window position `r`; false: none.
bool target(const Shape &f, int d, int64_t at, int64_t r, int64_t size, int64_t *out)
{
    int64_t v = at + f.pre[d] - r * f.dilation[d];
    *out = v / f.stride[d];
    return v >= 0 && v % f.stride[d] == 0 && *out < size;
}

int64_t turned(const Order &order, int64_t i, int64_t count)
{
    return order.backward ? count - 1 - i : i;
}

float forward_element(const Shape &f, const Values &x, const Values &w, const Order &order,
                      int64_t n, int64_t k, int64_t p, int64_t q)
{
    Sum sum(order);
    int64_t h, v;
    for (int64_t r = 0; r < f.r; r++)
        for (int64_t s = 0; s < f.s; s++) {
            if (!source(f, p, q, r, s, &h, &v))
                continue;
            for (int64_t i = 0; i < f.c; i++) {
                int64_t c = turned(order, i, f.c);
                sum.add(x[picture_at(f, n, c, h, v)] * w[filter_at(f, k, c, r, s)]);
            }
        }
    return sum.total();
}

float data_element(const Shape &f, const Values &w, const Values &dy, const Order &order, int64_t n,
                   int64_t c, int64_t h, int64_t v)
{
    Sum sum(order);
    int64_t p, q;
    for (int64_t r = 0; r < f.r; r++)
        for (int64_t s = 0; s < f.s; s++) {
            if (!target(f, 0, h, r, f.p, &p) || !target(f, 1, v, s, f.q, &q))
                continue;
            for (int64_t i = 0; i < f.k; i++) {
                int64_t k = turned(order, i, f.k);
                sum.add(dy[output_at(f, n, k, p, q)] * w[filter_at(f, k, c, r, s)]);
            }
        }
    return sum.total();
}

float filter_element(const Shape &f, const Values &x, const Values &dy, const Order &order,
                     int64_t k, int64_t c, int64_t r, int64_t s)
{
    Sum sum(order);
    int64_t h, v;
    for (int64_t i = 0; i < f.n; i++) {
        int64_t n = turned(order, i, f.n);
        for (int64_t p = 0; p < f.p; p++)
            for (int64_t q = 0; q < f.q; q++)
                if (source(f, p, q, r, s, &h, &v))
                    sum.add(x[picture_at(f, n, c, h, v)] * dy[output_at(f, n, k, p, q)]);
    }
    return sum.total();
}

Values forward(const Shape &f, const Values &x, const Values &w, const Order &order)
{
    Values y(f.n * f.k * f.p * f.q);
    for (int64_t n = 0; n < f.n; n++)
        for (int64_t k = 0; k < f.k; k++)
            for (int64_t p = 0; p < f.p; p++)
                for (int64_t q = 0; q < f.q; q++)
                    y[output_at(f, n, k, p, q)] = forward_element(f, x, w, order, n, k, p, q);
    return y;
}

Values data_gradient(const Shape &f, const Values &w, const Values &dy, const Order &order)
{
    Values dx(f.n * f.c * f.h * f.w);
    for (int64_t n = 0; n < f.n; n++)
        for (int64_t c = 0; c < f.c; c++)
            for (int64_t h = 0; h < f.h; h++)
                for (int64_t v = 0; v < f.w; v++)
                    dx[picture_at(f, n, c, h, v)] = data_element(f, w, dy, order, n, c, h, v);
    return dx;
}

Values filter_gradient(const Shape &f, const Values &x, const Values &dy, const Order &order)
{
    Values dw(f.k * f.c * f.r * f.s);
    for (int64_t k = 0; k < f.k; k++)
        for (int64_t c = 0; c < f.c; c++)
            for (int64_t r = 0; r < f.r; r++)
                for (int64_t s = 0; s < f.s; s++)
                    dw[filter_at(f, k, c, r, s)] = filter_element(f, x, dy, order, k, c, r, s);
    return dw;
}

// An operand as the plan's arithmetic takes it.
Values operand(const Tensor &tensor, Env &env)
{
    Values values = env.get(tensor);
    if (env.order.tf32 && tensor.type == CUDNN_DATA_FLOAT)
        for (float &v : values)
            v = tf32_round(v);
    return values;
}

} // namespace

void convolution_check(const Desc &op)
{
    Roles roles = roles_of(op);
    Tensor x = tensor_of(op.ref(roles.x)), w = tensor_of(op.ref(roles.w)),
           y = tensor_of(op.ref(roles.y));
    const Desc &conv = *op.ref(roles.conv);
    if (x.dims.size() != 4 || w.dims.size() != 4 || y.dims.size() != 4 ||
        conv.integer(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
                      "convolutions have two spatial dimensions "
                      "here");
    if (conv.integer(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) != CUDNN_DATA_FLOAT)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "convolutions compute in f32 here");
    Shape f = shape_of(op);
    if (w.dims[1] != f.c || y.dims[0] != f.n || y.dims[1] != f.k || extent(f, 0, f.h, f.r) != f.p ||
        extent(f, 1, f.w, f.s) != f.q)
        shapes_refuse("convolution", {x, w, y});
}

void convolution_run(const Desc &op, Env &env)
{
    Roles roles = roles_of(op);
    Shape f = shape_of(op);
    Tensor x = tensor_of(op.ref(roles.x)), w = tensor_of(op.ref(roles.w)),
           y = tensor_of(op.ref(roles.y));
    double alpha = op.number(roles.alpha, 1.0), beta = op.number(roles.beta, 0.0);
    if (op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        scaled_put(y, forward(f, operand(x, env), operand(w, env), env.order), alpha, beta, env);
    else if (op.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
        scaled_put(x, data_gradient(f, operand(w, env), operand(y, env), env.order), alpha, beta,
                   env);
    else
        scaled_put(w, filter_gradient(f, operand(x, env), operand(y, env), env.order), alpha, beta,
                   env);
}

} // namespace softgpu
