#include "graphs.h"

#include <stdlib.h>

static desc_t made[512];
static int made_count;

desc_t desc_new(cudnnBackendDescriptorType_t type)
{
    desc_t d;
    DNN(cudnnBackendCreateDescriptor(type, &d));
    assert_true(made_count < 512);
    made[made_count++] = d;
    return d;
}

void descs_free(void)
{
    while (made_count > 0)
        DNN(cudnnBackendDestroyDescriptor(made[--made_count]));
}

void set_ints(desc_t d, cudnnBackendAttributeName_t name, int count, const int64_t *v)
{
    DNN(cudnnBackendSetAttribute(d, name, CUDNN_TYPE_INT64, count, v));
}

void set_enum(desc_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int v)
{
    DNN(cudnnBackendSetAttribute(d, name, type, 1, &v));
}

void set_float(desc_t d, cudnnBackendAttributeName_t name, float v)
{
    DNN(cudnnBackendSetAttribute(d, name, CUDNN_TYPE_FLOAT, 1, &v));
}

void set_descs(desc_t d, cudnnBackendAttributeName_t name, int count, const desc_t *v)
{
    DNN(cudnnBackendSetAttribute(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, v));
}

void set_desc(desc_t d, cudnnBackendAttributeName_t name, desc_t v)
{
    set_descs(d, name, 1, &v);
}

desc_t finalized(desc_t d)
{
    cudnnStatus_t status = cudnnBackendFinalize(d);
    char text[512];
    cudnnGetLastErrorString(text, sizeof(text));
    if (status != CUDNN_STATUS_SUCCESS)
        fail_msg("%s", text);
    return d;
}

static desc_t tensor_new(int64_t id, cudnnDataType_t type, int rank, const int64_t *dims,
                         const int64_t *strides)
{
    desc_t d = desc_new(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    bool yes = true;
    int64_t plain = id & ~(VIRTUAL | BY_VALUE), alignment = 16;
    set_enum(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
    set_ints(d, CUDNN_ATTR_TENSOR_DIMENSIONS, rank, dims);
    set_ints(d, CUDNN_ATTR_TENSOR_STRIDES, rank, strides);
    set_ints(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &plain);
    set_ints(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, &alignment);
    if (id & VIRTUAL)
        DNN(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes));
    if (id & BY_VALUE)
        DNN(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1,
                                     &yes));
    return finalized(d);
}

desc_t tensor4(int64_t id, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w)
{
    const int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c};
    return tensor_new(id, type, 4, dims, strides);
}

desc_t tensor3(int64_t id, cudnnDataType_t type, int64_t batch, int64_t rows, int64_t columns)
{
    const int64_t dims[3] = {batch, rows, columns}, strides[3] = {rows * columns, columns, 1};
    return tensor_new(id, type, 3, dims, strides);
}

desc_t convolution(int stride, int pre, int post, int dilation)
{
    const int64_t two = 2, strides[2] = {stride, stride}, pres[2] = {pre, pre},
                  posts[2] = {post, post}, dilations[2] = {dilation, dilation};
    desc_t d = desc_new(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_enum(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_enum(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
             CUDNN_CROSS_CORRELATION);
    set_ints(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 1, &two);
    set_ints(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 2, strides);
    set_ints(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 2, pres);
    set_ints(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 2, posts);
    set_ints(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, 2, dilations);
    return finalized(d);
}

desc_t conv_forward(desc_t conv, desc_t x, desc_t w, desc_t y)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    return finalized(d);
}

desc_t conv_data(desc_t conv, desc_t w, desc_t dy, desc_t dx)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, conv);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, dy);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dx);
    return finalized(d);
}

desc_t conv_filter(desc_t conv, desc_t x, desc_t dy, desc_t dw)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
    set_float(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 2.0f);
    set_float(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 1.0f);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, conv);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, x);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, dy);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, dw);
    return finalized(d);
}

desc_t pointwise(cudnnPointwiseMode_t mode, desc_t x, desc_t b, desc_t y)
{
    desc_t pw = desc_new(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    bool backward = mode == CUDNN_POINTWISE_RELU_BWD;
    set_enum(pw, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
    set_enum(pw, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_desc(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, finalized(pw));
    set_desc(
        d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
        x);
    if (b != NULL)
        set_desc(d,
                 backward ? CUDNN_ATTR_OPERATION_POINTWISE_XDESC
                          : CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                 b);
    set_desc(
        d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
        y);
    return finalized(d);
}

desc_t genstats(desc_t x, desc_t sum, desc_t squares)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    set_enum(d, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE,
             CUDNN_GENSTATS_SUM_SQSUM);
    set_enum(d, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_desc(d, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, x);
    set_desc(d, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sum);
    set_desc(d, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, squares);
    return finalized(d);
}

desc_t reduction(cudnnReduceTensorOp_t kind, desc_t x, desc_t y)
{
    desc_t r = desc_new(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_enum(r, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, kind);
    set_enum(r, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_desc(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, finalized(r));
    set_desc(d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_desc(d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    return finalized(d);
}

desc_t matmul(desc_t a, desc_t b, desc_t c)
{
    desc_t m = desc_new(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_enum(m, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_desc(d, CUDNN_ATTR_OPERATION_MATMUL_DESC, finalized(m));
    set_desc(d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_desc(d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_desc(d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    return finalized(d);
}

static desc_t pool(cudnnResampleMode_t mode, int window, int stride, int pad)
{
    const int64_t two = 2, windows[2] = {window, window}, strides[2] = {stride, stride},
                  pads[2] = {pad, pad};
    desc_t d = desc_new(CUDNN_BACKEND_RESAMPLE_DESCRIPTOR);
    set_enum(d, CUDNN_ATTR_RESAMPLE_MODE, CUDNN_TYPE_RESAMPLE_MODE, mode);
    set_enum(d, CUDNN_ATTR_RESAMPLE_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    set_enum(d, CUDNN_ATTR_RESAMPLE_PADDING_MODE, CUDNN_TYPE_PADDING_MODE, CUDNN_ZERO_PAD);
    set_ints(d, CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS, 1, &two);
    set_ints(d, CUDNN_ATTR_RESAMPLE_WINDOW_DIMS, 2, windows);
    set_ints(d, CUDNN_ATTR_RESAMPLE_STRIDES, 2, strides);
    set_ints(d, CUDNN_ATTR_RESAMPLE_PRE_PADDINGS, 2, pads);
    set_ints(d, CUDNN_ATTR_RESAMPLE_POST_PADDINGS, 2, pads);
    return finalized(d);
}

desc_t pool_forward(cudnnResampleMode_t mode, int window, int stride, int pad, desc_t x, desc_t y)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR);
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_FWD_DESC, pool(mode, window, stride, pad));
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_FWD_XDESC, x);
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_FWD_YDESC, y);
    return finalized(d);
}

desc_t pool_backward(cudnnResampleMode_t mode, int window, int stride, int pad, desc_t dy,
                     desc_t dx)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR);
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DESC, pool(mode, window, stride, pad));
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DYDESC, dy);
    set_desc(d, CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DXDESC, dx);
    return finalized(d);
}

desc_t graph_of(int count, const desc_t *ops)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_descs(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, count, ops);
    return finalized(d);
}

desc_t plan_on(desc_t graph, int64_t index, int64_t knob)
{
    desc_t engine = desc_new(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    desc_t config = desc_new(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    desc_t plan = desc_new(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set_desc(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set_ints(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, 1, &index);
    set_desc(config, CUDNN_ATTR_ENGINECFG_ENGINE, finalized(engine));
    if (knob > 0) {
        desc_t choice = desc_new(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set_enum(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE,
                 CUDNN_KNOB_TYPE_SPLIT_K_SLC);
        set_ints(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, 1, &knob);
        set_desc(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, finalized(choice));
    }
    set_desc(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, finalized(config));
    return plan;
}

desc_t pack_of(int count, const int64_t *ids, void *const *pointers, void *workspace)
{
    desc_t d = desc_new(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set_ints(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, count, ids);
    DNN(cudnnBackendSetAttribute(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
                                 count, (const void *)pointers));
    if (workspace != NULL)
        DNN(cudnnBackendSetAttribute(d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                     (const void *)&workspace));
    return finalized(d);
}

void graph_run(desc_t graph, int count, const int64_t *ids, void *const *pointers)
{
    cudnnHandle_t handle;
    DNN(cudnnCreate(&handle));
    DNN(cudnnBackendExecute(handle, finalized(plan_on(graph, 0, 0)),
                            pack_of(count, ids, pointers, NULL)));
    DNN(cudnnDestroy(handle));
}

int graphs_setup(void **state)
{
    (void)state;
    softgpu_reset();
    return 0;
}

int graphs_teardown(void **state)
{
    (void)state;
    descs_free();
    return 0;
}

uint16_t bf16_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float bf16_value(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

void *put(const float *v, int count, cudnnDataType_t type)
{
    if (type == F32)
        return device_new(v, (size_t)count * sizeof(*v));
    uint16_t *h = malloc((size_t)count * sizeof(*h));
    for (int i = 0; i < count; i++)
        h[i] = bf16_of(v[i]);
    void *d = device_new(h, (size_t)count * sizeof(*h));
    free(h);
    return d;
}

void check(const char *what, const void *device, cudnnDataType_t type, const float *expected,
           int count)
{
    float *v = malloc((size_t)count * sizeof(*v));
    uint16_t *h = malloc((size_t)count * sizeof(*h));
    device_get(type == F32 ? (void *)v : h, device, (size_t)count * (type == F32 ? 4 : 2));
    for (int i = 0; i < count; i++) {
        float got = type == F32 ? v[i] : bf16_value(h[i]);
        if (got != expected[i])
            fail_msg("%s: element %d is %g, not %g", what, i, (double)got, (double)expected[i]);
    }
    free(v);
    free(h);
}
