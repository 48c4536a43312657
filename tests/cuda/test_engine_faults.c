// What goes wrong in the CUDA engine comes up as an error: values that are not finite, labels that
// are none, what it cannot do, and, on the software GPU, any call of CUDA and cuDNN that fails.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/models/support.h"
#ifdef TEST_SOFTGPU
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "tests/softgpu/softgpu.h"
#endif

#define OK(call) assert_int_equal((call), RETORT_OK)

static const char *device = "softgpu";

static struct graph *narrow_network(void)
{
    struct graph *g;
    struct graph_options options = {3, 16, 16, 10, NORM_BATCH, ACTIVATION_RELU};
    OK(graph_create(&g, "conv4/12", &options));
    return g;
}

// One value of many, behind what all threads look at first.
static void check_finite(struct engine *e, float value, bool expected)
{
    enum { MANY = 300000 };
    float *values = engine_alloc(e, MANY * sizeof(*values));
    bool finite;
    assert_non_null(values);
    OK(engine_upload(e, values + MANY - 1, &value, sizeof(value)));
    OK(engine_all_finite(e, values, MANY, &finite));
    assert_int_equal(finite, expected);
    engine_free(e, values);
}

static void what_is_not_finite_is_found(void **state)
{
    (void)state;
    struct engine *e;
    struct engine_options options = {.device = device, .threads = 1, .precision = PRECISION_F32};
    OK(engine_open(&e, &options));
    check_finite(e, 3e38F, true);
    check_finite(e, INFINITY, false);
    check_finite(e, -INFINITY, false);
    check_finite(e, NAN, false);
    engine_close(&e);
}

static void faults_are_said(void **state)
{
    (void)state;
    struct bench b;
    uint16_t f16[60];
    double one;
    const struct bench_options options = {.device = device, .threads = 1, .max_batch = 2};
    bench_open_on(&b, &options, narrow_network(), 2, 3);
    bench_step(&b);
    OK(network_logits_f16(b.network, f16));
    b.weights[b.graph->trainable - 1] = 1e6; // a bias of the logits
    bench_loss(&b, FORWARD_EVAL);
    assert_int_equal(network_logits_f16(b.network, f16), RETORT_NUMERIC);
    struct loss_targets targets = {.labels = b.on_engine.labels, .sample_id = b.ids, .count = 2};
    b.labels[1] = 10;
    OK(engine_upload(b.engine, b.on_engine.labels, b.labels, sizeof(b.labels)));
    OK(network_loss(b.network, &targets, &b.loss, b.on_engine.scalars, b.on_engine.sums));
    assert_int_equal(engine_download(b.engine, &one, b.on_engine.sums, sizeof(one)), RETORT_INPUT);
    bench_close(&b);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct engine *e;
    struct engine_options options = {.device = device, .threads = 1, .precision = PRECISION_F64};
    assert_int_equal(engine_open(&e, &options), RETORT_USAGE);
    assert_null(e);
    options.device = "toaster";
    assert_int_equal(engine_open(&e, &options), RETORT_USAGE);
    const char *folder = getenv("RETORT_PLUGINS");
    char *kept = folder != NULL ? strdup(folder) : NULL;
    setenv("RETORT_PLUGINS", "/nonexistent", 1);
    options.device = device;
    assert_int_equal(engine_open(&e, &options), RETORT_USAGE);
    if (kept != NULL)
        setenv("RETORT_PLUGINS", kept, 1);
    else
        unsetenv("RETORT_PLUGINS");
    free(kept);
}

#ifdef TEST_SOFTGPU
// What a rank does between start and end, until something fails.
static int some_work(void)
{
    struct engine_options options = {.device = device, .threads = 1, .precision = PRECISION_BF16};
    struct network_options net = {.max_batch = 2, .training = true};
    struct picture_format format = {.height = 16, .width = 16, .deviation = {1.0, 1.0, 1.0}};
    struct graph *g = narrow_network();
    struct engine *e = NULL;
    struct network *n = NULL;
    struct input *in = NULL;
    float *arena = NULL;
    double *values = calloc(2 * 3 * 16 * 16, sizeof(*values));
    int rc = RETORT_OK;
    assert_non_null(values);
    TRY(engine_open(&e, &options));
    TRY(input_create(&in, e, &format, 2));
    TRY(network_create(&n, e, g, &net));
    arena = engine_alloc(e, g->total * sizeof(float));
    TRY(arena != NULL ? RETORT_OK : RETORT_MEMORY);
    TRY(network_set_weights(n, arena));
    TRY(input_load_values(in, values, 2));
    for (int i = 0; i < 3; i++) // plainly, captured, replayed
        TRY(network_forward(n, in, FORWARD_TRAIN));
    TRY(engine_synchronize(e));
fail:
    free(values);
    if (e != NULL)
        engine_free(e, arena);
    network_destroy(&n);
    input_destroy(&in);
    engine_close(&e);
    graph_destroy(&g);
    return rc;
}

// A call of CUDA or cuDNN fails: the code comes up, and everything is given back.
static void failing_calls_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *call;
        int nth, code, expected;
    } CASES[] = {
        {"cudaGetDeviceCount", 1, cudaErrorInsufficientDriver, RETORT_USAGE},
        {"cudaSetDevice", 1, cudaErrorInvalidDevice, RETORT_USAGE},
        {"cudaMemGetInfo", 1, cudaErrorMemoryAllocation, RETORT_USAGE}, // no room to ask in
        {"cudaStreamCreateWithPriority", 1, cudaErrorUnknown, RETORT_FAILED},
        {"cudnnCreate", 1, CUDNN_STATUS_NOT_INITIALIZED, RETORT_FAILED},
        {"cudaMalloc", 1, cudaErrorMemoryAllocation, RETORT_MEMORY},
        {"cudaMalloc", 4, cudaErrorMemoryAllocation, RETORT_MEMORY},
        {"cudaMalloc", 20, cudaErrorMemoryAllocation, RETORT_MEMORY},
        {"cudnnBackendCreateDescriptor", 1, CUDNN_STATUS_ALLOC_FAILED, RETORT_FAILED},
        {"cudnnBackendFinalize", 1, CUDNN_STATUS_BAD_PARAM, RETORT_FAILED},
        {"cudnnBackendExecute", 1, CUDNN_STATUS_EXECUTION_FAILED, RETORT_FAILED},
        {"cudaStreamSynchronize", 1, cudaErrorIllegalAddress, RETORT_FAILED},
        {"cudaLaunchKernelExC", 3, cudaErrorUnknown, RETORT_FAILED},
        {"cudaGraphInstantiate", 1, cudaErrorNotSupported, RETORT_OK}, // then without graphs
    };
    size_t before = softgpu_allocated();
    assert_int_equal(some_work(), RETORT_OK);
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        softgpu_inject(CASES[i].call, CASES[i].nth, CASES[i].code);
        int rc = some_work();
        if (rc != CASES[i].expected)
            fail_msg("%s: code %d, not %d", CASES[i].call, rc, CASES[i].expected);
        assert_int_equal(softgpu_allocated(), before);
        softgpu_reset();
        before = 0;
    }
    softgpu_set_memory(4096);
    assert_int_equal(some_work(), RETORT_USAGE); // nobody begins there
    softgpu_reset();
}
#endif

int main(int argc, char **argv)
{
    if (argc > 1)
        device = argv[1];
    if (!bench_has_device(device))
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_is_found),
        cmocka_unit_test(faults_are_said),
        cmocka_unit_test(what_cannot_be_is_refused),
#ifdef TEST_SOFTGPU
        cmocka_unit_test(failing_calls_are_errors),
#endif
    };
    return cmocka_run_group_tests_name("faults of the CUDA engine", tests, NULL, NULL);
}
