// cuDNN's graphs against loops written out here.

#include "graphs.h"

#include <math.h>
#include <stdlib.h>

enum { N = 2, C = 3, H = 7, W = 6, K = 4, R = 3, P = 4, Q = 3 }; // stride 2, padding 1 and 1
enum { X_COUNT = N * C * H * W, F_COUNT = K * C * R * R, Y_COUNT = N * K * P * Q };
// Whole numbers of [-4, 4]: their sums are exact in whatever order.
static float *whole(int count, unsigned seed)
{
    float *v = malloc((size_t)count * sizeof(*v));
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = (float)(int)(seed >> 24) / 28.45f;
        v[i] = rintf(v[i]) - 4.0f;
    }
    return v;
}

// ---- loops, everything in NHWC; filters [K, R, S, C]

struct conv {
    int stride, pre, dilation;
};

// Calls term(x index, filter index, y index) for every product of the convolution.
static void conv_terms(struct conv f, void (*term)(void *, int, int, int), void *context)
{
    for (int n = 0; n < N; n++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++)
                for (int k = 0; k < K; k++)
                    for (int i = 0; i < R * R * C; i++) {
                        int r = i / (R * C), s = i / C % R, c = i % C;
                        int h = p * f.stride - f.pre + r * f.dilation;
                        int w = q * f.stride - f.pre + s * f.dilation;
                        if (h >= 0 && h < H && w >= 0 && w < W)
                            term(context, ((n * H + h) * W + w) * C + c, k * R * R * C + i,
                                 ((n * P + p) * Q + q) * K + k);
                    }
}

struct sums {
    const float *a, *b;
    float *out;
    int which; // 0: y += x f, 1: dx += dy f, 2: df += x dy
};

static void add_term(void *context, int x, int f, int y)
{
    struct sums *s = context;
    if (s->which == 0)
        s->out[y] += s->a[x] * s->b[f];
    if (s->which == 1)
        s->out[x] += s->a[y] * s->b[f];
    if (s->which == 2)
        s->out[f] += s->a[x] * s->b[y];
}

static float *conv_loops(struct conv f, int which, const float *a, const float *b)
{
    float *out = calloc(1000, sizeof(*out));
    struct sums s = {a, b, out, which};
    conv_terms(f, add_term, &s);
    return out;
}

// ---- tests

static void convolutions_and_their_gradients(void **unused)
{
    (void)unused;
    // 7 rows: (7 + 1 + 1 - 3) / 2 + 1 = 4; dilation 2: (7 + 2 + 2 - 5) / 2 + 1 = 4
    const struct conv kinds[2] = {{2, 1, 1}, {2, 2, 2}};
    const int64_t ids[3] = {1, 2, 3};
    for (int kind = 0; kind < 2; kind++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            cudnnDataType_t type = bf16 ? BF16 : F32;
            struct conv f = kinds[kind];
            float *x = whole(X_COUNT, 1), *w = whole(F_COUNT, 2), *dy = whole(Y_COUNT, 3);
            desc_t conv = convolution(f.stride, f.pre, f.pre, f.dilation);
            desc_t xd = tensor4(1, type, N, C, H, W), wd = tensor4(2, type, K, C, R, R);
            desc_t yd = tensor4(3, type, N, K, P, Q), op;
            void *dev[3] = {put(x, X_COUNT, type), put(w, F_COUNT, type), put(dy, Y_COUNT, type)};
            float *y = conv_loops(f, 0, x, w), *dx = conv_loops(f, 1, dy, w);
            float *dw = conv_loops(f, 2, x, dy);

            op = conv_data(conv, wd, yd, xd);
            graph_run(graph_of(1, &op), 3, ids, dev);
            check("data gradient", dev[0], type, dx, X_COUNT);
            OK(cudaMemcpy(dev[0], put(x, X_COUNT, type), X_COUNT * (bf16 ? 2 : 4),
                          cudaMemcpyDeviceToDevice));

            op = conv_filter(conv, xd, yd, wd); // 2 dw + w
            graph_run(graph_of(1, &op), 3, ids, dev);
            for (int i = 0; i < F_COUNT; i++)
                dw[i] = bf16 ? bf16_value(bf16_of(2.0f * dw[i] + w[i])) : 2.0f * dw[i] + w[i];
            check("filter gradient", dev[1], type, dw, F_COUNT);
            OK(cudaMemcpy(dev[1], put(w, F_COUNT, type), F_COUNT * (bf16 ? 2 : 4),
                          cudaMemcpyDeviceToDevice));

            op = conv_forward(conv, xd, wd, yd);
            graph_run(graph_of(1, &op), 3, ids, dev);
            for (int i = 0; bf16 && i < Y_COUNT; i++)
                y[i] = bf16_value(bf16_of(y[i]));
            check("forward", dev[2], type, y, Y_COUNT);
            free(x), free(w), free(dy), free(y), free(dx), free(dw);
            descs_free();
        }
}

static void paddings_differ_before_and_after(void **unused)
{
    (void)unused;
    // 3 x 3 padded by 1 before and 0 after, windows of ones: they hang over above and on the left
    const float x[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, w[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float expected[4] = {12, 21, 27, 45};
    const int64_t ids[3] = {1, 2, 3};
    void *dev[3] = {put(x, 9, F32), put(w, 9, F32), device_new(NULL, 16)};
    desc_t op = conv_forward(convolution(1, 1, 0, 1), tensor4(1, F32, 1, 1, 3, 3),
                             tensor4(2, F32, 1, 1, 3, 3), tensor4(3, F32, 1, 1, 2, 2));
    graph_run(graph_of(1, &op), 3, ids, dev);
    check("uneven padding", dev[2], F32, expected, 4);
}

// scale-bias-relu -> conv -> sums: what lies between is virtual, and rounded to bf16.
static void fused_graphs_round_what_is_virtual(void **unused)
{
    (void)unused;
    const struct conv f = {2, 1, 1};
    const float scale[C] = {0.3f, -1.7f, 1.1f}, bias[C] = {0.1f, 0.2f, -0.3f};
    float *x = whole(X_COUNT, 4), *w = whole(F_COUNT, 5), between[X_COUNT];
    for (int i = 0; i < X_COUNT; i++) {
        float scaled = bf16_value(bf16_of(x[i] * scale[i % C]));
        float moved = bf16_value(bf16_of(scaled + bias[i % C]));
        between[i] = moved > 0.0f ? moved : 0.0f;
    }
    float *y = conv_loops(f, 0, between, w), sum[K] = {0}, square[K] = {0};
    desc_t xd = tensor4(1, BF16, N, C, H, W), wd = tensor4(2, BF16, K, C, R, R);
    desc_t yd = tensor4(3 | VIRTUAL, F32, N, K, P, Q), sd = tensor4(4, F32, 1, C, 1, 1);
    desc_t bd = tensor4(5, F32, 1, C, 1, 1), scaled = tensor4(6 | VIRTUAL, BF16, N, C, H, W);
    desc_t moved = tensor4(7 | VIRTUAL, BF16, N, C, H, W);
    desc_t live = tensor4(8 | VIRTUAL, BF16, N, C, H, W);
    desc_t ops[5] = {
        // The last one first: graphs are sorted.
        genstats(yd, tensor4(9, F32, 1, K, 1, 1), tensor4(10, F32, 1, K, 1, 1)),
        pointwise(CUDNN_POINTWISE_MUL, xd, sd, scaled),
        pointwise(CUDNN_POINTWISE_ADD, scaled, bd, moved),
        pointwise(CUDNN_POINTWISE_RELU_FWD, moved, NULL, live),
        conv_forward(convolution(f.stride, f.pre, f.pre, 1), live, wd, yd),
    };
    const int64_t ids[6] = {1, 2, 4, 5, 9, 10};
    void *dev[6] = {put(x, X_COUNT, BF16), put(w, F_COUNT, BF16), put(scale, C, F32),
                    put(bias, C, F32),     device_new(NULL, 64),  device_new(NULL, 64)};
    graph_run(graph_of(5, ops), 6, ids, dev);
    float sums[K], squares[K];
    device_get(sums, dev[4], sizeof(sums));
    device_get(squares, dev[5], sizeof(squares));
    for (int i = 0; i < Y_COUNT; i++) {
        sum[i % K] += y[i];
        square[i % K] += y[i] * y[i];
    }
    for (int k = 0; k < K; k++) {
        assert_true(fabsf(sums[k] - sum[k]) <= 1e-5f * fabsf(square[k]));
        assert_true(fabsf(squares[k] - square[k]) <= 1e-5f * fabsf(square[k]));
    }
    free(x), free(w), free(y);
}

// conv -> y and its sums: they are of what y holds, in bf16.
static void sums_come_beside_the_output(void **unused)
{
    (void)unused;
    const struct conv f = {2, 1, 1};
    float *x = whole(X_COUNT, 4), *w = whole(F_COUNT, 5), sum[K] = {0}, square[K] = {0};
    for (int i = 0; i < X_COUNT; i++)
        x[i] *= 9.0f; // so that outputs have more than 8 bits
    float *y = conv_loops(f, 0, x, w);
    desc_t yd = tensor4(3, BF16, N, K, P, Q);
    desc_t ops[2] = {
        genstats(yd, tensor4(4, F32, 1, K, 1, 1), tensor4(5, F32, 1, K, 1, 1)),
        conv_forward(convolution(f.stride, f.pre, f.pre, 1), tensor4(1, BF16, N, C, H, W),
                     tensor4(2, BF16, K, C, R, R), yd),
    };
    const int64_t ids[5] = {1, 2, 3, 4, 5};
    void *dev[5] = {put(x, X_COUNT, BF16), put(w, F_COUNT, BF16), device_new(NULL, Y_COUNT * 2),
                    device_new(NULL, 64), device_new(NULL, 64)};
    int rounded = 0;
    graph_run(graph_of(2, ops), 5, ids, dev);
    for (int i = 0; i < Y_COUNT; i++) {
        float v = bf16_value(bf16_of(y[i]));
        rounded += v != y[i];
        y[i] = v;
        sum[i % K] += v;
        square[i % K] += v * v;
    }
    assert_true(rounded > Y_COUNT / 8);
    check("output", dev[2], BF16, y, Y_COUNT);
    check("sum", dev[3], F32, sum, K);
    check("sum of squares", dev[4], F32, square, K);
    free(x), free(w), free(y);
}

// data gradient -> drelu, by what BatchNorm made of z -> the two sums of BatchNorm's backward
static void backward_graphs_reduce(void **unused)
{
    (void)unused;
    const struct conv f = {2, 1, 1};
    const float mean[C] = {1, -1, 0}, scale[C] = {2, -1, 0}, shift[C] = {-3, 1, 0};
    float *z = whole(X_COUNT, 6), *w = whole(F_COUNT, 7), *dy = whole(Y_COUNT, 8);
    float *dx = conv_loops(f, 1, dy, w), sum[C] = {0}, product[C] = {0};
    for (int i = 0; i < X_COUNT; i++) {
        int c = i % C;
        dx[i] = (z[i] - mean[c]) * scale[c] + shift[c] > 0.0f ? dx[i] : 0.0f;
        sum[c] += dx[i];
        product[c] += dx[i] * (z[i] - mean[c]);
    }
    assert_true(sum[0] != 0.0f && sum[1] != 0.0f && sum[2] == 0.0f);
    desc_t zd = tensor4(1, BF16, N, C, H, W), wd = tensor4(2, BF16, K, C, R, R);
    desc_t yd = tensor4(3, BF16, N, K, P, Q), before = tensor4(4 | VIRTUAL, F32, N, C, H, W);
    desc_t after = tensor4(5, F32, N, C, H, W), times = tensor4(6 | VIRTUAL, F32, N, C, H, W);
    desc_t distance = tensor4(9 | VIRTUAL, F32, N, C, H, W);
    desc_t scaled = tensor4(10 | VIRTUAL, F32, N, C, H, W);
    desc_t moved = tensor4(11 | VIRTUAL, F32, N, C, H, W);
    desc_t ops[8] = {
        conv_data(convolution(f.stride, f.pre, f.pre, 1), wd, yd, before),
        pointwise(CUDNN_POINTWISE_SUB, zd, tensor4(12, F32, 1, C, 1, 1), distance),
        pointwise(CUDNN_POINTWISE_MUL, distance, tensor4(13, F32, 1, C, 1, 1), scaled),
        pointwise(CUDNN_POINTWISE_ADD, scaled, tensor4(14, F32, 1, C, 1, 1), moved),
        pointwise(CUDNN_POINTWISE_RELU_BWD, before, moved, after),
        pointwise(CUDNN_POINTWISE_MUL, after, distance, times),
        reduction(CUDNN_REDUCE_TENSOR_ADD, after, tensor4(7, F32, 1, C, 1, 1)),
        reduction(CUDNN_REDUCE_TENSOR_ADD, times, tensor4(8, F32, 1, C, 1, 1)),
    };
    const int64_t ids[9] = {1, 2, 3, 5, 7, 8, 12, 13, 14};
    void *dev[9] = {put(z, X_COUNT, BF16),  put(w, F_COUNT, BF16),
                    put(dy, Y_COUNT, BF16), device_new(NULL, X_COUNT * 4),
                    device_new(NULL, 64),   device_new(NULL, 64),
                    put(mean, C, F32),      put(scale, C, F32),
                    put(shift, C, F32)};
    graph_run(graph_of(8, ops), 9, ids, dev);
    check("drelu", dev[3], F32, dx, X_COUNT);
    check("sum", dev[4], F32, sum, C);
    check("sum of products", dev[5], F32, product, C);
    free(z), free(w), free(dy), free(dx);
}

static void reductions_of_every_kind(void **unused)
{
    (void)unused;
    const float x[6] = {1, -5, 2, 0, 3, -2}; // [1, 2 rows, 3]
    const struct {
        cudnnReduceTensorOp_t kind;
        float rows[2];
    } cases[] = {
        {CUDNN_REDUCE_TENSOR_ADD, {-2, 1}},  {CUDNN_REDUCE_TENSOR_AVG, {-2 / 3.0f, 1 / 3.0f}},
        {CUDNN_REDUCE_TENSOR_MIN, {-5, -2}}, {CUDNN_REDUCE_TENSOR_MAX, {2, 3}},
        {CUDNN_REDUCE_TENSOR_AMAX, {5, 3}},  {CUDNN_REDUCE_TENSOR_NORM1, {8, 5}}};
    const int64_t ids[2] = {1, 2};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        void *dev[2] = {put(x, 6, F32), device_new(NULL, 8)};
        desc_t op = reduction(cases[i].kind, tensor3(1, F32, 1, 2, 3), tensor3(2, F32, 1, 2, 1));
        graph_run(graph_of(1, &op), 2, ids, dev);
        check("reduction", dev[1], F32, cases[i].rows, 2);
    }
}

// relu(A B + bias), the batch of B repeated.
static void matmuls(void **unused)
{
    (void)unused;
    enum { BATCH = 2, ROWS = 3, INNER = 5, COLUMNS = 4 };
    float *a = whole(BATCH * ROWS * INNER, 9), *b = whole(INNER * COLUMNS, 10);
    const float bias[COLUMNS] = {1, -2, 3, -4};
    float expected[BATCH * ROWS * COLUMNS];
    for (int i = 0; i < BATCH * ROWS * COLUMNS; i++) {
        float sum = bias[i % COLUMNS];
        for (int k = 0; k < INNER; k++)
            sum += a[i / COLUMNS * INNER + k] * b[k * COLUMNS + i % COLUMNS];
        expected[i] = sum > 0 ? sum : 0;
    }
    desc_t product = tensor3(4 | VIRTUAL, F32, BATCH, ROWS, COLUMNS);
    desc_t sum = tensor3(5 | VIRTUAL, F32, BATCH, ROWS, COLUMNS);
    desc_t ops[3] = {
        matmul(tensor3(1, BF16, BATCH, ROWS, INNER), tensor3(2, BF16, 1, INNER, COLUMNS), product),
        pointwise(CUDNN_POINTWISE_ADD, product, tensor3(3, F32, 1, 1, COLUMNS), sum),
        pointwise(CUDNN_POINTWISE_RELU_FWD, sum, NULL, tensor3(6, F32, BATCH, ROWS, COLUMNS))};
    const int64_t ids[4] = {1, 2, 3, 6};
    void *dev[4] = {put(a, BATCH * ROWS * INNER, BF16), put(b, INNER * COLUMNS, BF16),
                    put(bias, COLUMNS, F32), device_new(NULL, sizeof(expected))};
    graph_run(graph_of(3, ops), 4, ids, dev);
    check("matmul", dev[3], F32, expected, BATCH * ROWS * COLUMNS);
    free(a), free(b);
}

static void average_pools(void **unused)
{
    (void)unused;
    // 3 x 3 of one channel, windows of 2, stride 2, padding 1: corners, edges, centre
    const float x[9] = {4, 8, 12, 16, 20, 24, 28, 32, 36};
    const float with[4] = {1, 5, 11, 28}, without[4] = {4, 10, 22, 28};
    const float dy[4] = {4, 8, 12, 16};
    const float dx[9] = {1, 2, 2, 3, 4, 4, 3, 4, 4}; // each in one window, a quarter of it
    const int64_t ids[2] = {1, 2};
    void *dev[2] = {put(x, 9, F32), device_new(NULL, 16)};
    desc_t xd = tensor4(1, F32, 1, 1, 3, 3), yd = tensor4(2, F32, 1, 1, 2, 2);
    desc_t op = pool_forward(CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING, 2, 2, 1, xd, yd);
    graph_run(graph_of(1, &op), 2, ids, dev);
    check("pool with padding", dev[1], F32, with, 4);
    op = pool_forward(CUDNN_RESAMPLE_AVGPOOL_EXCLUDE_PADDING, 2, 2, 1, xd, yd);
    graph_run(graph_of(1, &op), 2, ids, dev);
    check("pool without padding", dev[1], F32, without, 4);
    OK(cudaMemcpy(dev[1], dy, sizeof(dy), cudaMemcpyHostToDevice));
    op = pool_backward(CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING, 2, 2, 1, yd, xd);
    graph_run(graph_of(1, &op), 2, ids, dev);
    check("pool backward", dev[0], F32, dx, 9);
}

static void values_round_to_the_declared_type(void **unused)
{
    (void)unused;
    // ties of bf16 go to even; f16 has 11 bits and ends at 65504
    const float x[4] = {1.00390625f, 1.01171875f, 3.0e38f, -65519.0f};
    const float bf16[4] = {1.0f, 1.015625f, 226.0f * 0x1p120f, -65536.0f};
    const uint16_t f16[4] = {0x3c04, 0x3c0c, 0x7c00, 0xfbff};
    const int64_t ids[3] = {1, 2, 3};
    void *dev[3] = {put(x, 4, F32), device_new(NULL, 8), device_new(NULL, 8)};
    desc_t xd = tensor3(1, F32, 1, 1, 4);
    desc_t ops[2] = {pointwise(CUDNN_POINTWISE_IDENTITY, xd, NULL, tensor3(2, BF16, 1, 1, 4)),
                     pointwise(CUDNN_POINTWISE_IDENTITY, xd, NULL, tensor3(3, F16, 1, 1, 4))};
    uint16_t got[4];
    graph_run(graph_of(2, ops), 3, ids, dev);
    check("bf16", dev[1], BF16, bf16, 4);
    device_get(got, dev[2], sizeof(got));
    assert_memory_equal(got, f16, sizeof(got));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, graphs_setup, graphs_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(convolutions_and_their_gradients),
        TEST(paddings_differ_before_and_after),
        TEST(fused_graphs_round_what_is_virtual),
        TEST(sums_come_beside_the_output),
        TEST(backward_graphs_reduce),
        TEST(reductions_of_every_kind),
        TEST(matmuls),
        TEST(average_pools),
        TEST(values_round_to_the_declared_type),
    };
    return cmocka_run_group_tests_name("softgpu cuDNN", tests, NULL, NULL);
}
