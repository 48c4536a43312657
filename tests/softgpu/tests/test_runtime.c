// Memory, streams, events and graphs; what each policy finds.

#include <math.h>
#include <stdlib.h>

#include "planted.h"
#include "support.h"

enum { COUNT = 64, BYTES = COUNT * sizeof(float), SEEDS = 20 };

static int reset(void **state)
{
    (void)state;
    softgpu_reset();
    return 0;
}

static float *pinned_new(void)
{
    void *p;
    OK(cudaMallocHost(&p, BYTES));
    return p;
}

static cudaStream_t stream_new(void)
{
    cudaStream_t s;
    OK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static cudaEvent_t event_new(void)
{
    cudaEvent_t e;
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}

// ---- memory

static void memory_is_not_zero_and_ends(void **unused)
{
    (void)unused;
    float values[COUNT];
    void *p, *q;
    float *d = device_new(NULL, BYTES);
    assert_int_equal((uintptr_t)d % 256, 0);
    device_get(values, d, BYTES);
    assert_true(isnan(values[0]) && isnan(values[COUNT - 1]));
    softgpu_set_memory(softgpu_allocated() + 1000);
    OK(cudaMalloc(&p, 1000));
    assert_int_equal(cudaMalloc(&q, 1), cudaErrorMemoryAllocation);
    assert_null(q);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    OK(cudaFree(p));
    OK(cudaMalloc(&q, 1));
    assert_int_equal(cudaFree((char *)q + 1), cudaErrorInvalidValue);
    OK(cudaFree(NULL));
}

static void copies_are_checked(void **unused)
{
    (void)unused;
    char host[64] = {0};
    char *d = device_new(NULL, 64), *gone = device_new(NULL, 64);
    assert_int_equal(cudaMemcpy(d, host, 64, cudaMemcpyDeviceToHost),
                     cudaErrorInvalidMemcpyDirection);
    OK(cudaMemcpy(d, host, 64, cudaMemcpyDefault));
    assert_int_equal(cudaMemset(host, 0, 64), cudaErrorInvalidValue);
    OK(cudaFree(gone));
    assert_int_not_equal(cudaMemcpy(d + 1, host, 64, cudaMemcpyHostToDevice), cudaSuccess);
    expect_fault(cudaErrorIllegalAddress, "cudaMemcpy: destination: [", "+64) is not inside", NULL);
    assert_int_not_equal(cudaMemset(gone, 0, 1), cudaSuccess);
    expect_fault(cudaErrorIllegalAddress, "cudaMemset: [", NULL);
}

static void touch(void *p)
{
    *(volatile float *)p = 1.0f;
}

static void the_host_cannot_touch_device_memory(void **unused)
{
    (void)unused;
    char line[1024];
    float *d = device_new(NULL, BYTES);
    assert_int_equal(in_child(touch, d, line, sizeof(line)), SOFTGPU_EXIT);
    assert_non_null(strstr(line, "test_runtime"));
    assert_non_null(strstr(line, "the host touches device memory"));
}

static void touch_in_host_function(void *d)
{
    cudaLaunchHostFunc(NULL, touch, d);
    cudaDeviceSynchronize();
}

static void host_functions_run_in_order_outside(void **unused)
{
    (void)unused;
    char line[1024];
    float *d = device_new(NULL, BYTES), *p = pinned_new();
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    p[0] = 0.0f;
    OK(cudaLaunchHostFunc(NULL, touch, p));
    OK(cudaMemcpyAsync(d, p, BYTES, cudaMemcpyHostToDevice, NULL));
    assert_true(p[0] == 0.0f);
    device_get(p + 1, d, sizeof(float));
    assert_true(p[1] == 1.0f);
    assert_int_equal(in_child(touch_in_host_function, d, line, sizeof(line)), SOFTGPU_EXIT);
}

// ---- what the policies find: each program twice, right and with one line missing

// 2 x + x = 3 x on a stream, read back through pinned memory.
static float round_trip(int synchronised)
{
    cudaStream_t s = stream_new();
    float *host = pinned_new(), *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES);
    host[0] = 1.0f;
    OK(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, s));
    OK(saxpy(y, 2.0f, x, x, COUNT, s));
    OK(cudaMemcpyAsync(host, y, BYTES, cudaMemcpyDeviceToHost, s));
    if (synchronised)
        OK(cudaStreamSynchronize(s));
    float result = host[0];
    OK(cudaStreamDestroy(s));
    softgpu_reset();
    return result;
}

// b reads what a wrote.
static float read_after_write(int waits)
{
    cudaStream_t a = stream_new(), b = stream_new();
    cudaEvent_t written = event_new();
    float *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES), result;
    OK(cudaMemsetAsync(x, 0, BYTES, a));
    OK(cudaEventRecord(written, a));
    if (waits)
        OK(cudaStreamWaitEvent(b, written, 0));
    OK(saxpy(y, 1.0f, x, x, COUNT, b));
    OK(cudaStreamSynchronize(b));
    device_get(&result, y, sizeof(result));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    softgpu_reset();
    return result;
}

// a overwrites what b reads.
static float write_after_read(int waits)
{
    cudaStream_t a = stream_new(), b = stream_new();
    cudaEvent_t read = event_new();
    float *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES), result;
    OK(cudaMemset(x, 0, BYTES));
    OK(cudaDeviceSynchronize());
    OK(saxpy(y, 1.0f, x, x, COUNT, b));
    OK(cudaEventRecord(read, b));
    if (waits)
        OK(cudaStreamWaitEvent(a, read, 0));
    OK(cudaMemsetAsync(x, 0x40, BYTES, a));
    OK(cudaDeviceSynchronize());
    device_get(&result, y, sizeof(result));
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    softgpu_reset();
    return result;
}

static int wrong_seeds(float (*program)(int), int right, float expected)
{
    int wrong = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        softgpu_set_policy(SOFTGPU_RANDOM, seed);
        wrong += program(right) != expected;
    }
    return wrong;
}

static void policies_find_what_is_missing(void **unused)
{
    (void)unused;
    float (*const programs[3])(int) = {round_trip, read_after_write, write_after_read};
    const float expected[3] = {3.0f, 0.0f, 0.0f};
    const int lazy_finds[3] = {1, 1, 0};
    for (int i = 0; i < 3; i++) {
        for (int right = 0; right < 2; right++) {
            softgpu_set_policy(SOFTGPU_EAGER, 0);
            assert_true(programs[i](right) == expected[i]); // eager finds nothing
        }
        softgpu_set_policy(SOFTGPU_LAZY, 0);
        assert_true(programs[i](1) == expected[i]);
        softgpu_set_policy(SOFTGPU_LAZY, 0);
        assert_int_equal(programs[i](0) != expected[i], lazy_finds[i]);
        assert_int_equal(wrong_seeds(programs[i], 1, expected[i]), 0);
        assert_in_range(wrong_seeds(programs[i], 0, expected[i]), 4, SEEDS);
    }
}

// A pinned source is read when the copy runs, a pageable one when it is queued.
static void pinned_sources_are_read_late(void **unused)
{
    (void)unused;
    float *pinned = pinned_new(), pageable[COUNT] = {5.0f}, out[2];
    float *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES);
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    pinned[0] = 5.0f;
    OK(cudaMemcpyAsync(x, pinned, BYTES, cudaMemcpyHostToDevice, NULL));
    OK(cudaMemcpyAsync(y, pageable, BYTES, cudaMemcpyHostToDevice, NULL));
    pinned[0] = pageable[0] = 6.0f;
    device_get(&out[0], x, sizeof(float));
    device_get(&out[1], y, sizeof(float));
    assert_true(out[0] == 6.0f && out[1] == 5.0f);
}

static void the_legacy_stream_waits_for_blocking_ones(void **unused)
{
    (void)unused;
    cudaStream_t blocking, other = stream_new();
    float *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES), out;
    OK(cudaMemset(x, 0, BYTES));
    OK(cudaMemset(y, 0, BYTES));
    OK(cudaDeviceSynchronize());
    OK(cudaStreamCreate(&blocking));
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    OK(cudaMemsetAsync(x, 0x40, sizeof(float), blocking));
    OK(cudaMemsetAsync(y, 0x40, sizeof(float), other));
    OK(cudaMemcpy(&out, x, sizeof(out), cudaMemcpyDeviceToHost));
    assert_true(out > 3.0f);
    OK(cudaMemcpy(&out, y, sizeof(out), cudaMemcpyDeviceToHost));
    assert_true(out == 0.0f);
    OK(cudaStreamDestroy(other)); // what it has queued still runs
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpy(&out, y, sizeof(out), cudaMemcpyDeviceToHost));
    assert_true(out > 3.0f);
    OK(cudaStreamDestroy(blocking));
}

static void events_say_when(void **unused)
{
    (void)unused;
    cudaEvent_t from, to;
    cudaStream_t s = stream_new();
    float ms = -1.0f, *x = device_new(NULL, BYTES);
    OK(cudaEventCreate(&from));
    OK(cudaEventCreate(&to));
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    OK(cudaEventRecord(from, s));
    OK(saxpy(x, 1.0f, x, x, COUNT, s));
    OK(cudaEventRecord(to, s));
    assert_int_equal(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
    int asked = 0;
    while (cudaEventQuery(to) == cudaErrorNotReady)
        asked++;
    assert_int_equal(asked, 3); // one operation each time it is asked
    OK(cudaEventElapsedTime(&ms, from, to));
    assert_true(ms > 0.0f && ms < 10000.0f);
    assert_int_equal(cudaGetLastError(), cudaSuccess); // not ready is no error to keep
    cudaEvent_t untimed = event_new();
    assert_int_equal(cudaEventElapsedTime(&ms, untimed, to), cudaErrorInvalidResourceHandle);
    OK(cudaEventDestroy(from));
    assert_int_equal(cudaEventRecord(from, s), cudaErrorInvalidResourceHandle);
    OK(cudaStreamDestroy(s));
}

// ---- graphs

static cudaGraphExec_t captured(cudaStream_t s, float *x, float *y, int joined, cudaError_t code)
{
    cudaGraphExec_t exec = NULL;
    cudaGraph_t graph;
    cudaStream_t side = stream_new();
    cudaEvent_t fork = event_new(), join = event_new();
    OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
    OK(saxpy(x, 1.0f, x, x, COUNT, s)); // x *= 2
    OK(cudaEventRecord(fork, s));
    OK(cudaStreamWaitEvent(side, fork, 0));
    OK(saxpy(y, 1.0f, x, y, COUNT, side)); // y += x
    OK(cudaEventRecord(join, side));
    if (joined)
        OK(cudaStreamWaitEvent(s, join, 0));
    OK(saxpy(x, 0.5f, x, x, COUNT, joined ? s : side)); // x *= 1.5
    assert_int_equal(cudaStreamEndCapture(s, &graph), code);
    if (code == cudaSuccess) {
        size_t nodes;
        OK(cudaGraphGetNodes(graph, NULL, &nodes));
        assert_int_equal(nodes, 3);
        OK(cudaGraphInstantiate(&exec, graph, 0));
        OK(cudaGraphDestroy(graph));
    }
    OK(cudaEventDestroy(fork));
    OK(cudaStreamDestroy(side));
    return exec;
}

static void graphs_replay(void **unused)
{
    (void)unused;
    for (uint64_t seed = 0; seed <= SEEDS; seed++) {
        cudaStream_t s = stream_new();
        float one = 1.0f, out, *x = device_new(NULL, BYTES), *y = device_new(NULL, BYTES);
        softgpu_set_policy(seed == SEEDS ? SOFTGPU_LAZY : SOFTGPU_RANDOM, seed);
        OK(cudaMemsetAsync(x, 0, BYTES, s));
        OK(cudaMemsetAsync(y, 0, BYTES, s));
        OK(cudaMemcpyAsync(x, &one, sizeof(one), cudaMemcpyHostToDevice, s));
        // What the stream has queued before the capture stays queued, outside of it.
        cudaGraphExec_t exec = captured(s, x, y, 1, cudaSuccess);
        uint64_t kernels = softgpu_kernels_run();
        for (int i = 0; i < 3; i++)
            OK(cudaGraphLaunch(exec, s));
        OK(cudaStreamSynchronize(s));
        assert_int_equal(softgpu_kernels_run() - kernels, 9);
        device_get(&out, x, sizeof(out));
        assert_true(out == 27.0f); // 3^3
        device_get(&out, y, sizeof(out));
        assert_true(out == 2.0f + 6.0f + 18.0f);
        OK(cudaGraphExecDestroy(exec));
        OK(cudaStreamDestroy(s));
        softgpu_reset();
    }
}

static void captures_are_joined(void **unused)
{
    (void)unused;
    cudaStream_t s = stream_new();
    float *x = device_new(NULL, BYTES);
    captured(s, x, x, 0, cudaErrorStreamCaptureUnjoined);
    enum cudaStreamCaptureStatus status;
    OK(cudaStreamIsCapturing(s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusNone);
    OK(cudaStreamDestroy(s));
}

// Each call that a capture forbids says so and makes it useless.
static void captures_forbid(void **unused)
{
    (void)unused;
    cudaStream_t s, other = stream_new();
    cudaEvent_t outside = event_new(), inside = event_new();
    cudaGraph_t graph;
    void *p;
    float *x = device_new(NULL, BYTES), host;
    OK(cudaStreamCreate(&s));
    OK(cudaEventRecord(outside, other));
    for (int i = 0; i < 7; i++) {
        cudaError_t rc = cudaSuccess, expected = cudaErrorStreamCaptureUnsupported;
        OK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        OK(cudaEventRecord(inside, s));
        if (i == 0)
            rc = cudaStreamSynchronize(s);
        if (i == 1)
            rc = cudaMalloc(&p, 8);
        if (i == 2)
            rc = cudaDeviceSynchronize();
        if (i == 3)
            rc = cudaStreamQuery(s);
        if (i == 4)
            rc = cudaMemcpy(&host, x, 4, cudaMemcpyDeviceToHost),
            expected = cudaErrorStreamCaptureImplicit;
        if (i == 5)
            rc = cudaStreamWaitEvent(s, outside, 0), expected = cudaErrorStreamCaptureIsolation;
        if (i == 6)
            rc = saxpy(x, 1.0f, x, x, 1, NULL), expected = cudaErrorStreamCaptureImplicit;
        assert_int_equal(rc, expected);
        assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    assert_int_equal(cudaEventSynchronize(inside), cudaErrorCapturedEvent);
    assert_int_equal(cudaStreamWaitEvent(other, inside, 0), cudaErrorCapturedEvent);
    OK(cudaStreamDestroy(s));
    OK(cudaStreamDestroy(other));
}

// ---- errors

static void errors_stick(void **unused)
{
    (void)unused;
    float *x = device_new(NULL, BYTES), host;
    OK(out_of_bounds(x, COUNT, 1, NULL) == cudaErrorIllegalAddress ? cudaSuccess
                                                                   : cudaErrorUnknown);
    assert_int_equal(cudaMemcpy(&host, x, 4, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_string_equal(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
    softgpu_reset();
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    OK(cudaDeviceSynchronize());
}

static void calls_fail_when_told(void **unused)
{
    (void)unused;
    void *p;
    softgpu_inject("cudaMalloc", 2, cudaErrorMemoryAllocation);
    softgpu_inject("cudaLaunchKernelExC", 1, cudaErrorLaunchFailure);
    OK(cudaMalloc(&p, 256));
    assert_int_equal(cudaMalloc(&p, 256), cudaErrorMemoryAllocation);
    OK(cudaMalloc(&p, 256));
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(saxpy(p, 1.0f, p, p, 1, NULL), cudaErrorLaunchFailure);
    OK(saxpy(p, 1.0f, p, p, 1, NULL));
}

static void the_device_describes_itself(void **unused)
{
    (void)unused;
    struct cudaDeviceProp properties;
    int count, value;
    size_t free_bytes, total_bytes;
    OK(cudaGetDeviceCount(&count));
    assert_int_equal(count, 1);
    OK(cudaSetDevice(0));
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    OK(cudaGetDeviceProperties(&properties, 0));
    assert_string_equal(properties.name, "software GPU");
    OK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    assert_int_equal(value, 9);
    softgpu_set_memory(1000000);
    device_new(NULL, 512);
    OK(cudaMemGetInfo(&free_bytes, &total_bytes));
    assert_int_equal(total_bytes, 1000000);
    assert_int_equal(free_bytes, 1000000 - 512);
    OK(cudaDeviceReset());
    assert_int_equal(softgpu_allocated(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_is_not_zero_and_ends, reset),
        cmocka_unit_test_setup_teardown(copies_are_checked, keep_faults, end_on_faults),
        cmocka_unit_test_setup(the_host_cannot_touch_device_memory, reset),
        cmocka_unit_test_setup(host_functions_run_in_order_outside, reset),
        cmocka_unit_test_setup(policies_find_what_is_missing, reset),
        cmocka_unit_test_setup(pinned_sources_are_read_late, reset),
        cmocka_unit_test_setup(the_legacy_stream_waits_for_blocking_ones, reset),
        cmocka_unit_test_setup(events_say_when, reset),
        cmocka_unit_test_setup(graphs_replay, reset),
        cmocka_unit_test_setup(captures_are_joined, reset),
        cmocka_unit_test_setup(captures_forbid, reset),
        cmocka_unit_test_setup_teardown(errors_stick, keep_faults, end_on_faults),
        cmocka_unit_test_setup(calls_fail_when_told, reset),
        cmocka_unit_test_setup(the_device_describes_itself, reset),
    };
    return cmocka_run_group_tests_name("softgpu runtime", tests, NULL, NULL);
}
