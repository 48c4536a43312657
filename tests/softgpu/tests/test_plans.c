// What cuDNN's descriptors, graphs and plans refuse, and what plans differ in.

#include "graphs.h"

#include <math.h>

// ---- refusals

#define REFUSED(call, code, words)                                                                 \
    do {                                                                                           \
        char said[512];                                                                            \
        assert_int_equal((call), (code));                                                          \
        cudnnGetLastErrorString(said, sizeof(said));                                               \
        if (strstr(said, (words)) == NULL)                                                         \
            fail_msg("\"%s\" does not say \"%s\"", said, (words));                                 \
    } while (0)

static void descriptors_refuse(void **unused)
{
    (void)unused;
    desc_t d = desc_new(CUDNN_BACKEND_TENSOR_DESCRIPTOR), other;
    const int64_t dims[4] = {1, 2, 3, 0}, one = 1;
    float f = 1.0f;
    REFUSED(
        cudnnBackendSetAttribute(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &one),
        CUDNN_STATUS_BAD_PARAM, "have no attribute");
    REFUSED(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_VECTOR_COUNT, CUDNN_TYPE_INT64, 1, &one),
            CUDNN_STATUS_BAD_PARAM, "have no attribute");
    REFUSED(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_FLOAT, 1, &f),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "takes type");
    REFUSED(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 2, dims),
            CUDNN_STATUS_BAD_PARAM, "elements");
    REFUSED(cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM, "is missing");
    set_enum(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, F32);
    set_ints(d, CUDNN_ATTR_TENSOR_DIMENSIONS, 4, dims);
    set_ints(d, CUDNN_ATTR_TENSOR_STRIDES, 4, dims);
    set_ints(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &one);
    set_ints(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, dims + 2);
    REFUSED(cudnnBackendFinalize(d), CUDNN_STATUS_BAD_PARAM, "dimension 3 is 0");
    other = desc_new(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    REFUSED(cudnnBackendSetAttribute(other, CUDNN_ATTR_OPERATION_GENSTATS_XDESC,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &d),
            CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "not finalized");
    d = tensor3(1, F32, 1, 1, 1);
    REFUSED(cudnnBackendSetAttribute(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &one),
            CUDNN_STATUS_BAD_PARAM, "finalized already");
    REFUSED(cudnnBackendCreateDescriptor(CUDNN_BACKEND_RNG_DESCRIPTOR, &other),
            CUDNN_STATUS_NOT_SUPPORTED, "not known here");
}

// Attributes of an operation without its last finalize.
static desc_t conv_unfinished(desc_t x, desc_t w, desc_t y)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(2, 1, 1, 1));
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_desc(d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    return d;
}

static desc_t graph_unfinished(int count, const desc_t *ops)
{
    desc_t d = desc_new(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_descs(d, CUDNN_ATTR_OPERATIONGRAPH_OPS, count, ops);
    return d;
}

static void graphs_refuse(void **unused)
{
    (void)unused;
    desc_t x = tensor4(1, F32, 2, 3, 7, 6), w = tensor4(2, F32, 4, 3, 3, 3);
    desc_t y = tensor4(3, F32, 2, 4, 4, 3), a = tensor3(4 | VIRTUAL, F32, 1, 1, 4);
    desc_t b = tensor3(5 | VIRTUAL, F32, 1, 1, 4), out = tensor3(6, F32, 1, 1, 4);
    REFUSED(cudnnBackendFinalize(conv_unfinished(x, w, x)), CUDNN_STATUS_BAD_PARAM,
            "convolution: the tensors do not fit");
    DNN(cudnnBackendFinalize(conv_unfinished(x, w, y)));
    desc_t op = pointwise(CUDNN_POINTWISE_IDENTITY, a, NULL, out);
    REFUSED(cudnnBackendFinalize(graph_unfinished(1, &op)), CUDNN_STATUS_BAD_PARAM,
            "virtual tensor 4 is read");
    desc_t ring[2] = {pointwise(CUDNN_POINTWISE_IDENTITY, a, NULL, b),
                      pointwise(CUDNN_POINTWISE_IDENTITY, b, NULL, a)};
    REFUSED(cudnnBackendFinalize(graph_unfinished(2, ring)), CUDNN_STATUS_BAD_PARAM,
            "wait for each other");
    desc_t twice[2] = {pointwise(CUDNN_POINTWISE_IDENTITY, out, NULL, b),
                       pointwise(CUDNN_POINTWISE_NEG, out, NULL, b)};
    REFUSED(cudnnBackendFinalize(graph_unfinished(2, twice)),
            CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "written twice");
}

// A graph of one addition: 3 = 1 + 2, four values each.
static desc_t addition(void)
{
    desc_t op = pointwise(CUDNN_POINTWISE_ADD, tensor3(1, F32, 1, 1, 4), tensor3(2, F32, 1, 1, 4),
                          tensor3(3, F32, 1, 1, 4));
    return graph_of(1, &op);
}

static void execution_refuses(void **unused)
{
    (void)unused;
    const int64_t ids[3] = {1, 2, 3};
    const float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float *d = put(x, 8, F32);
    void *right[3] = {d, d, d + 4}, *crooked[3] = {d, d + 1, d + 4}, *outside[3] = {d, d, d + 8};
    desc_t plan = finalized(plan_on(addition(), 0, 0)), hungry;
    cudnnHandle_t handle;
    DNN(cudnnCreate(&handle));
    DNN(cudnnBackendExecute(handle, plan, pack_of(3, ids, right, NULL)));
    REFUSED(cudnnBackendExecute(handle, plan, pack_of(2, ids, right, NULL)),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no pointer for tensor 3");
    REFUSED(cudnnBackendExecute(handle, plan, pack_of(3, ids, crooked, NULL)),
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "tensor 2 is not aligned to 16 bytes");
    hungry = finalized(plan_on(addition(), 1, 2));
    REFUSED(cudnnBackendExecute(handle, hungry, pack_of(3, ids, right, NULL)),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "needs a workspace");
    softgpu_inject("cudnnBackendExecute", 1, CUDNN_STATUS_EXECUTION_FAILED);
    assert_int_equal(cudnnBackendExecute(handle, plan, pack_of(3, ids, right, NULL)),
                     CUDNN_STATUS_EXECUTION_FAILED);
    (void)cudnnBackendExecute(handle, hungry, pack_of(3, ids, right, d));
    expect_fault(cudaErrorIllegalAddress, "cudnnBackendExecute: workspace", NULL);
    d = put(x, 8, F32);
    outside[0] = outside[1] = d, outside[2] = d + 8;
    (void)cudnnBackendExecute(handle, plan, pack_of(3, ids, outside, NULL));
    expect_fault(cudaErrorIllegalAddress, "cudnnBackendExecute: tensor 3", NULL);
    DNN(cudnnDestroy(handle));
}

// ---- plans

static int offered(desc_t graph, int mode, desc_t configs[8])
{
    int64_t count;
    desc_t heuristics = desc_new(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_desc(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set_enum(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    for (int i = 0; i < 8; i++)
        configs[i] = desc_new(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    DNN(cudnnBackendGetAttribute(finalized(heuristics), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 8, &count, configs));
    return (int)count;
}

static int64_t engine_of(desc_t config, int *note)
{
    int64_t index, count;
    desc_t engine = desc_new(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    int notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &count, &engine));
    DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                 &count, &index));
    DNN(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
                                 notes));
    *note = count > 0 ? notes[count - 1] : -1;
    return index;
}

static int64_t knob_of(desc_t config)
{
    int64_t count, value = 0;
    desc_t choice = desc_new(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    DNN(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &choice));
    if (count > 0)
        DNN(cudnnBackendGetAttribute(choice, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                                     &count, &value));
    return value;
}

static void heuristics_offer_good_and_bad(void **unused)
{
    (void)unused;
    const struct {
        int mode, count, index[3], knob[3], note[3];
    } expected[] = {
        {CUDNN_HEUR_MODE_A,
         3,
         {2, 1, 4},
         {0, 2, 0},
         {-1, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}},
        {CUDNN_HEUR_MODE_B,
         3,
         {4, 3, 1},
         {0, 0, 4},
         {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, -1, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}},
        {CUDNN_HEUR_MODE_FALLBACK, 1, {0}, {0}, {-1}},
    };
    const int64_t workspaces[5] = {0, 16 << 20, 0, 1 << 30, 16 << 20};
    desc_t graph = addition(), configs[8];
    for (int m = 0; m < 3; m++) {
        assert_int_equal(offered(graph, expected[m].mode, configs), expected[m].count);
        for (int i = 0; i < expected[m].count; i++) {
            int note;
            int64_t index = engine_of(configs[i], &note), bytes, count;
            assert_int_equal(index, expected[m].index[i]);
            assert_int_equal(note, expected[m].note[i]);
            assert_int_equal(knob_of(configs[i]), expected[m].knob[i]);
            desc_t plan = desc_new(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
            set_desc(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configs[i]);
            if (index == 2) {
                REFUSED(cudnnBackendFinalize(plan), CUDNN_STATUS_NOT_SUPPORTED, "engine 2");
                continue;
            }
            DNN(cudnnBackendGetAttribute(finalized(plan), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &count, &bytes));
            assert_int_equal(bytes, workspaces[index]);
        }
    }
    REFUSED(cudnnBackendFinalize(plan_on(graph, 0, 2)), CUDNN_STATUS_BAD_PARAM, "has no knob");
}

// The sum of 500 values by engine and knob.
static float summed(int64_t engine, int64_t knob)
{
    enum { COUNT = 500 };
    static float x[COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = 1.0f / (float)(i + 3);
    const int64_t ids[2] = {1, 2};
    void *dev[2] = {put(x, COUNT, F32), device_new(NULL, 16)};
    void *workspace = device_new(NULL, 16 << 20);
    desc_t op =
        reduction(CUDNN_REDUCE_TENSOR_ADD, tensor3(1, F32, 1, 1, COUNT), tensor3(2, F32, 1, 1, 1));
    cudnnHandle_t handle;
    float sum;
    DNN(cudnnCreate(&handle));
    DNN(cudnnBackendExecute(handle, finalized(plan_on(graph_of(1, &op), engine, knob)),
                            pack_of(2, ids, dev, workspace)));
    DNN(cudnnDestroy(handle));
    device_get(&sum, dev[1], sizeof(sum));
    softgpu_reset();
    return sum;
}

static void plans_differ_in_bits(void **unused)
{
    (void)unused;
    assert_true(summed(0, 0) == summed(0, 0));
    assert_true(summed(1, 2) == summed(1, 2));
    assert_true(summed(0, 0) != summed(1, 2));
    assert_true(summed(1, 2) != summed(1, 4));
    assert_true(summed(4, 0) != summed(4, 0));
    assert_true(fabsf(summed(0, 0) - summed(4, 0)) < 1e-4f);
}

// Engine 1 takes f32 operands of products as tensor cores do: 10 bits of fraction.
static void products_of_f32_may_be_rounded(void **unused)
{
    (void)unused;
    const float x[1] = {1.0f + 1.0f / 4096}, one[1] = {1.0f};
    const int64_t ids[3] = {1, 2, 3};
    void *dev[3] = {put(x, 1, F32), put(one, 1, F32), device_new(NULL, 16)};
    desc_t op =
        matmul(tensor3(1, F32, 1, 1, 1), tensor3(2, F32, 1, 1, 1), tensor3(3, F32, 1, 1, 1));
    desc_t graph = graph_of(1, &op);
    cudnnHandle_t handle;
    graph_run(graph, 3, ids, dev);
    check("f32", dev[2], F32, x, 1);
    DNN(cudnnCreate(&handle));
    DNN(cudnnBackendExecute(handle, finalized(plan_on(graph, 1, 1)),
                            pack_of(3, ids, dev, device_new(NULL, 16 << 20))));
    DNN(cudnnDestroy(handle));
    check("tf32", dev[2], F32, one, 1);
}

// Children may be destroyed, by-value tensors are read at once, and plans are captured.
static void plans_run_in_graphs(void **unused)
{
    (void)unused;
    const float x[4] = {1, 2, 3, 4};
    float host = 10.0f, out[4];
    desc_t xd = tensor3(1, F32, 1, 1, 4), yd = tensor3(3, F32, 1, 1, 4), plan, pack;
    desc_t op = pointwise(CUDNN_POINTWISE_ADD, xd, tensor3(2 | BY_VALUE, F32, 1, 1, 1), yd);
    const int64_t ids[3] = {1, 2, 3};
    void *dev[3] = {put(x, 4, F32), &host, NULL};
    cudnnHandle_t handle;
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    dev[2] = dev[0]; // in place
    plan = finalized(plan_on(graph_of(1, &op), 0, 0));
    pack = pack_of(3, ids, dev, NULL);
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    DNN(cudnnCreate(&handle));
    DNN(cudnnSetStream(handle, s));
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    DNN(cudnnBackendExecute(handle, plan, pack));
    OK(cudaStreamEndCapture(s, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    descs_free();
    host = 1000.0f;
    for (int i = 0; i < 2; i++)
        OK(cudaGraphLaunch(exec, s));
    device_get(out, dev[0], sizeof(out));
    for (int i = 0; i < 4; i++)
        assert_true(out[i] == x[i] + 20.0f);
    OK(cudaGraphExecDestroy(exec));
    OK(cudaGraphDestroy(graph));
    OK(cudaStreamDestroy(s));
    DNN(cudnnDestroy(handle));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, graphs_setup, graphs_teardown)

static int tidy_faults(void **state)
{
    descs_free();
    return end_on_faults(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(descriptors_refuse),
        TEST(graphs_refuse),
        cmocka_unit_test_setup_teardown(execution_refuses, keep_faults, tidy_faults),
        TEST(heuristics_offer_good_and_bad),
        TEST(plans_differ_in_bits),
        TEST(products_of_f32_may_be_rounded),
        TEST(plans_run_in_graphs),
    };
    return cmocka_run_group_tests_name("softgpu plans", tests, NULL, NULL);
}
