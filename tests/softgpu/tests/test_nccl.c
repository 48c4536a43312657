// Ranks are processes: each test forks them, and every rank checks its own numbers.

#include <errno.h>
#include <nccl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

#define NCCL(call) assert_int_equal((call), ncclSuccess)

enum { COUNT = 5, RANKS = 4 };

struct rank {
    int rank, ranks;
    ncclComm_t comm;
    cudaStream_t stream;
};

static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        continue;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

// A check in a rank: its process ends with the line's number.
#define HERE(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "rank %d: line %d: %s\n", r->rank, __LINE__, #condition);              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void rank_open(struct rank *r, ncclUniqueId id, int device)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclResult_t state;
    config.blocking = 0;
    HERE(cudaSetDevice(device) == cudaSuccess);
    HERE(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking) == cudaSuccess);
    HERE(ncclCommInitRankConfig(&r->comm, r->ranks, id, r->rank, &config) == ncclInProgress);
    for (int i = 0; i < 10000; i++) {
        HERE(ncclCommGetAsyncError(r->comm, &state) == ncclSuccess);
        if (state != ncclInProgress)
            break;
        sleep_ms(1);
    }
    HERE(state == ncclSuccess);
}

// Forks `ranks` processes that run the body; the test fails unless all end well.
static void run_ranks(int ranks, void (*body)(struct rank *r))
{
    ncclUniqueId id;
    pid_t pids[RANKS];
    char devices[8];
    NCCL(ncclGetUniqueId(&id));
    snprintf(devices, sizeof(devices), "%d", ranks);
    fflush(NULL);
    for (int i = 0; i < ranks; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] != 0)
            continue;
        struct rank r = {.rank = i, .ranks = ranks};
        setenv("SOFTGPU_DEVICES", devices, 1);
        softgpu_reset();
        rank_open(&r, id, i);
        body(&r);
        _exit(0);
    }
    int wrong = 0, status;
    for (int i = 0; i < ranks; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    assert_int_equal(wrong, 0);
}

// [count] floats: value i of rank k is 10 k + i.
static float *values_new(int rank, int count)
{
    float v[64];
    for (int i = 0; i < count; i++)
        v[i] = 10.0f * (float)rank + (float)i;
    return device_new(v, (size_t)count * sizeof(float));
}

static void collectives_body(struct rank *r)
{
    float out[COUNT * RANKS], *to = device_new(NULL, sizeof(out)), expected;
    float *mine = values_new(r->rank, COUNT), *all = values_new(r->rank, COUNT * r->ranks);
    float ranks = (float)r->ranks, sum = 10.0f * ranks * (ranks - 1.0f) / 2.0f;
    for (int round = 0; round < 3; round++) { // more than there are slots
        HERE(ncclAllReduce(mine, to, COUNT, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
        device_get(out, to, sizeof(out));
        for (int i = 0; i < COUNT; i++)
            HERE(out[i] == sum + ranks * (float)i);
    }
    HERE(ncclAllReduce(mine, to, COUNT, ncclFloat32, ncclMax, r->comm, r->stream) == 0);
    device_get(out, to, sizeof(out));
    HERE(out[1] == 10.0f * (ranks - 1.0f) + 1.0f);

    HERE(ncclBroadcast(mine, to, COUNT, ncclFloat32, r->ranks - 1, r->comm, r->stream) == 0);
    device_get(out, to, sizeof(out));
    HERE(out[2] == 10.0f * (ranks - 1.0f) + 2.0f);

    HERE(ncclAllGather(mine, to, COUNT, ncclFloat32, r->comm, r->stream) == 0);
    device_get(out, to, sizeof(out));
    for (int i = 0; i < COUNT * r->ranks; i++) {
        expected = 10.0f * (float)(i / COUNT) + (float)(i % COUNT);
        HERE(out[i] == expected);
    }

    HERE(ncclReduceScatter(all, to, COUNT, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    device_get(out, to, sizeof(out));
    for (int i = 0; i < COUNT; i++)
        HERE(out[i] == sum + ranks * (float)(r->rank * COUNT + i));

    OK(cudaMemset(to, 0, sizeof(out)));
    HERE(ncclReduce(mine, to, COUNT, ncclFloat32, ncclSum, 0, r->comm, r->stream) == 0);
    device_get(out, to, sizeof(out));
    HERE(out[3] == (r->rank == 0 ? sum + ranks * 3.0f : 0.0f));
    HERE(ncclCommFinalize(r->comm) == 0 && ncclCommDestroy(r->comm) == 0);
}

// Groups of collectives follow each other, however far ahead a rank is: none reads what a later
// one has written.
static void grouped_collectives_body(struct rank *r)
{
    float out[2], *mine = values_new(r->rank, 2), *to = device_new(NULL, sizeof(out));
    float ranks = (float)r->ranks, sum = 10.0f * ranks * (ranks - 1.0f) / 2.0f;
    for (int round = 0; round < 20; round++) {
        HERE(ncclGroupStart() == 0);
        HERE(ncclAllReduce(mine, to, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
        HERE(ncclAllReduce(mine + 1, to + 1, 1, ncclFloat32, ncclMax, r->comm, r->stream) == 0);
        HERE(ncclGroupEnd() == 0);
        if (r->rank == round % r->ranks)
            sleep_ms(2);
        device_get(out, to, sizeof(out));
        HERE(out[0] == sum && out[1] == 10.0f * (ranks - 1.0f) + 1.0f);
    }
}

static void collectives(void **unused)
{
    (void)unused;
    run_ranks(1, collectives_body);
    run_ranks(2, collectives_body);
    run_ranks(4, collectives_body);
    run_ranks(4, grouped_collectives_body);
}

// Each rank sends to all and receives from all, in one group; then a ring, in place.
static void messages_body(struct rank *r)
{
    float out[COUNT * RANKS], *mine = values_new(r->rank, COUNT),
                              *to = device_new(NULL, sizeof(out));
    for (int round = 0; round < 3; round++) {
        HERE(ncclGroupStart() == 0);
        for (int p = 0; p < r->ranks; p++) {
            HERE(ncclSend(mine, COUNT, ncclFloat32, p, r->comm, r->stream) == 0);
            HERE(ncclRecv(to + p * COUNT, COUNT, ncclFloat32, p, r->comm, r->stream) == 0);
        }
        HERE(ncclGroupEnd() == 0);
        device_get(out, to, sizeof(out));
        for (int i = 0; i < COUNT * r->ranks; i++)
            HERE(out[i] == 10.0f * (float)(i / COUNT) + (float)(i % COUNT));
    }
    // Six messages from rank 0 to rank 1, which takes its time: more than there are slots.
    for (int m = 0; m < 6 && r->rank < 2; m++) {
        sleep_ms(r->rank * 5);
        if (r->rank == 0)
            HERE(ncclSend(mine + m % COUNT, 1, ncclFloat32, 1, r->comm, r->stream) == 0);
        else
            HERE(ncclRecv(to + m, 1, ncclFloat32, 0, r->comm, r->stream) == 0);
    }
    device_get(out, to, sizeof(out));
    for (int m = 0; m < 6 && r->rank == 1; m++)
        HERE(out[m] == (float)(m % COUNT));

    int next = (r->rank + 1) % r->ranks, before = (r->rank + r->ranks - 1) % r->ranks;
    HERE(ncclGroupStart() == 0);
    HERE(ncclRecv(mine, 1, ncclFloat32, before, r->comm, r->stream) == 0);
    HERE(ncclSend(mine + 1, 1, ncclFloat32, next, r->comm, r->stream) == 0);
    HERE(ncclGroupEnd() == 0);
    device_get(out, mine, sizeof(float));
    HERE(out[0] == 10.0f * (float)before + 1.0f);
    HERE(ncclGroupEnd() == ncclInvalidUsage);
}

static void messages(void **unused)
{
    (void)unused;
    run_ranks(2, messages_body);
    run_ranks(4, messages_body);
}

// bf16: 256 + 1 + 1 is 256 where each sum is rounded, in rank order; f64 and i64 are exact.
static void types_body(struct rank *r)
{
    const uint16_t bf16 = r->rank == 0 ? 0x4380 : 0x3f80;
    uint16_t h, *hd = device_new(&bf16, sizeof(bf16));
    double d = 0.1 * (r->rank + 1), *dd = device_new(&d, sizeof(d));
    int64_t i = (int64_t)1 << (40 + r->rank), *id = device_new(&i, sizeof(i));
    HERE(ncclAllReduce(hd, hd, 1, ncclBfloat16, ncclSum, r->comm, r->stream) == 0);
    HERE(ncclAllReduce(dd, dd, 1, ncclFloat64, ncclSum, r->comm, r->stream) == 0);
    HERE(ncclAllReduce(id, id, 1, ncclInt64, ncclSum, r->comm, r->stream) == 0);
    device_get(&h, hd, sizeof(h));
    device_get(&d, dd, sizeof(d));
    device_get(&i, id, sizeof(i));
    HERE(h == 0x4380);
    HERE(d == 0.1 * 1 + 0.1 * 2 + 0.1 * 3);
    HERE(i == (int64_t)7 << 40);
}

static void types_and_rank_order(void **unused)
{
    (void)unused;
    run_ranks(3, types_body);
}

// Two captured all-reduces on two branches, replayed under every policy; ranks draw other dice.
static void captured_body(struct rank *r)
{
    for (int policy = 0; policy < 8; policy++) {
        float out, *a = values_new(r->rank, 1), *b = values_new(r->rank + 1, 1);
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        cudaStream_t side;
        cudaEvent_t fork, join;
        OK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
        OK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
        OK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
        OK(cudaStreamSynchronize(r->stream));
        softgpu_set_policy(policy == 0   ? SOFTGPU_EAGER
                           : policy == 1 ? SOFTGPU_LAZY
                                         : SOFTGPU_RANDOM,
                           (uint64_t)(policy * 10 + r->rank));
        OK(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal));
        OK(cudaEventRecord(fork, r->stream));
        OK(cudaStreamWaitEvent(side, fork, 0));
        HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
        HERE(ncclAllReduce(b, b, 1, ncclFloat32, ncclSum, r->comm, side) == 0);
        OK(cudaEventRecord(join, side));
        OK(cudaStreamWaitEvent(r->stream, join, 0));
        OK(cudaStreamEndCapture(r->stream, &graph));
        OK(cudaGraphInstantiate(&exec, graph, 0));
        for (int i = 0; i < 3; i++)
            OK(cudaGraphLaunch(exec, r->stream));
        OK(cudaStreamSynchronize(r->stream));
        device_get(&out, a, sizeof(out));
        HERE(out == 10.0f * 4); // (0 + 10) 2 2
        device_get(&out, b, sizeof(out));
        HERE(out == 30.0f * 4);
        OK(cudaStreamDestroy(side));
    }
}

static void captured_and_replayed(void **unused)
{
    (void)unused;
    run_ranks(2, captured_body);
}

// Rank 0 queues its part and then waits for rank 1 outside of CUDA: rank 1 gets its sum
// nonetheless, lazy or not.
static volatile int *finished; // shared by the ranks

static void progress_body(struct rank *r)
{
    float out, *a = values_new(r->rank, 1);
    softgpu_set_policy(SOFTGPU_LAZY, 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    for (int i = 0; r->rank == 0 && !*finished; i++) {
        HERE(i < 20000);
        sleep_ms(1);
    }
    OK(cudaStreamSynchronize(r->stream));
    *finished = 1;
    device_get(&out, a, sizeof(out));
    HERE(out == 10.0f);
}

static void a_busy_host_holds_nobody_up(void **unused)
{
    (void)unused;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    finished = p;
    run_ranks(2, progress_body);
    munmap(p, 4096);
}

// ---- what goes wrong

static int still_waiting(struct rank *r, int ms)
{
    double begin = now_ms();
    cudaError_t rc;
    while ((rc = cudaStreamQuery(r->stream)) == cudaErrorNotReady && now_ms() - begin < ms)
        sleep_ms(1);
    return rc == cudaErrorNotReady;
}

static void hang_body(struct rank *r)
{
    float *a = values_new(r->rank, 1);
    ncclResult_t state;
    if (r->rank == 1)
        softgpu_nccl_misbehave(SOFTGPU_HANGS, 2, 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    HERE(!still_waiting(r, 20000));
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    HERE(still_waiting(r, 200));
    HERE(ncclCommGetAsyncError(r->comm, &state) == 0 && state == ncclSuccess);
    HERE(ncclCommAbort(r->comm) == 0); // what waited is given up
    OK(cudaStreamSynchronize(r->stream));
}

static void fail_body(struct rank *r)
{
    float *a = values_new(r->rank, 1);
    ncclResult_t state = ncclSuccess;
    if (r->rank == 1)
        softgpu_nccl_misbehave(SOFTGPU_FAILS, 2, 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    OK(cudaStreamSynchronize(r->stream)); // all are there
    (void)ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream);
    for (int i = 0; i < 20000 && state == ncclSuccess; i++) {
        HERE(ncclCommGetAsyncError(r->comm, &state) == 0);
        sleep_ms(1);
    }
    HERE(state == (r->rank == 1 ? ncclSystemError : ncclRemoteError));
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == state);
    HERE(ncclCommAbort(r->comm) == 0);
    OK(cudaStreamSynchronize(r->stream));
}

static void slow_body(struct rank *r)
{
    float *a = values_new(r->rank, 1), out;
    double begin = now_ms();
    if (r->rank == 1)
        softgpu_nccl_misbehave(SOFTGPU_SLOW, 1, 300);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    OK(cudaStreamSynchronize(r->stream));
    HERE(r->rank == 0 || now_ms() - begin >= 250.0); // rank 0 may have come late
    device_get(&out, a, sizeof(out));
    HERE(out == 10.0f);
}

// A call is not done when it returns: the next one is refused until that was asked about.
static void busy_body(struct rank *r)
{
    float *a = values_new(r->rank, 1), out;
    ncclResult_t state = ncclInProgress;
    softgpu_nccl_misbehave(SOFTGPU_BUSY, 0, 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInProgress);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == ncclInvalidUsage);
    while (state == ncclInProgress)
        HERE(ncclCommGetAsyncError(r->comm, &state) == 0);
    HERE(state == ncclSuccess);
    HERE(ncclGroupStart() == 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclSum, r->comm, r->stream) == 0);
    HERE(ncclAllReduce(a, a, 1, ncclFloat32, ncclMax, r->comm, r->stream) == 0);
    HERE(ncclGroupEnd() == ncclInProgress);
    device_get(&out, a, sizeof(out));
    HERE(out == 20.0f);
}

static void ranks_hang_fail_and_are_slow(void **unused)
{
    (void)unused;
    run_ranks(2, hang_body);
    run_ranks(2, fail_body);
    run_ranks(2, slow_body);
    run_ranks(2, busy_body);
}

// Rank 1 reduces one element less, and then sends fewer than are expected.
static void disagree_body(struct rank *r)
{
    float *a = values_new(r->rank, 2);
    softgpu_keep_faults(true);
    (void)ncclAllReduce(a, a, 2 - (size_t)r->rank, ncclFloat32, ncclSum, r->comm, r->stream);
    (void)cudaStreamSynchronize(r->stream);
    HERE(strstr(softgpu_fault(), "collective 0 of rank") != NULL);
    HERE(strstr(softgpu_fault(), "ncclAllReduce of 2 elements") != NULL);
    softgpu_reset();
    a = values_new(r->rank, 2);
    if (r->rank == 0)
        (void)ncclRecv(a, 2, ncclFloat32, 1, r->comm, r->stream);
    else
        HERE(ncclSend(a, 1, ncclFloat32, 0, r->comm, r->stream) == 0);
    (void)cudaStreamSynchronize(r->stream);
    if (r->rank == 0)
        HERE(strstr(softgpu_fault(), "receives 8 bytes from rank 1, which sent 4") != NULL);
}

static void ranks_that_disagree_are_named(void **unused)
{
    (void)unused;
    run_ranks(2, disagree_body);
}

static void calls_are_refused(void **unused)
{
    (void)unused;
    ncclUniqueId id;
    ncclComm_t comm, alone;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclResult_t state;
    int count, rank, version;
    config.blocking = 0;
    NCCL(ncclGetUniqueId(&id));
    assert_int_equal(ncclCommInitRank(&comm, 2, id, 2), ncclInvalidArgument);
    assert_int_equal(ncclCommInitRankConfig(&comm, 2, id, 0, &config), ncclInProgress);
    assert_int_equal(ncclAllReduce(NULL, NULL, 0, ncclFloat32, ncclSum, comm, NULL),
                     ncclInvalidUsage); // the other rank is missing
    // The other rank has the same GPU.
    assert_int_equal(ncclCommInitRank(&alone, 2, id, 1), ncclInvalidUsage);
    NCCL(ncclCommGetAsyncError(comm, &state));
    assert_int_equal(state, ncclInvalidUsage);
    NCCL(ncclCommAbort(comm));
    NCCL(ncclCommAbort(alone));

    NCCL(ncclGetUniqueId(&id));
    NCCL(ncclCommInitRank(&alone, 1, id, 0));
    NCCL(ncclCommCount(alone, &count));
    NCCL(ncclCommUserRank(alone, &rank));
    NCCL(ncclGetVersion(&version));
    assert_true(count == 1 && rank == 0 && version == NCCL_VERSION_CODE);
    float *a = values_new(0, 4);
    assert_int_equal(ncclSend(a, 1, ncclFloat32, 1, alone, NULL), ncclInvalidArgument);
    softgpu_inject("ncclAllReduce", 1, ncclInternalError);
    assert_int_equal(ncclAllReduce(a, a, 4, ncclFloat32, ncclSum, alone, NULL), ncclInternalError);
    NCCL(ncclAllReduce(a, a, 4, ncclFloat32, ncclSum, alone, NULL));
    NCCL(ncclCommDestroy(alone));
    id.internal[0]++; // the process of this id is another, or none
    id.internal[4] = 99;
    assert_int_equal(ncclCommInitRank(&alone, 1, id, 0), ncclSystemError);
}

static void memory_is_checked(void **unused)
{
    (void)unused;
    ncclUniqueId id;
    ncclComm_t comm;
    void *p, *handle;
    NCCL(ncclGetUniqueId(&id));
    NCCL(ncclCommInitRank(&comm, 1, id, 0));
    NCCL(ncclMemAlloc(&p, 16));
    NCCL(ncclCommRegister(comm, p, 16, &handle));
    NCCL(ncclCommDeregister(comm, handle));
    assert_int_equal(ncclCommRegister(comm, p, 17, &handle), ncclInvalidArgument);
    (void)ncclAllReduce(p, p, 5, ncclFloat32, ncclSum, comm, NULL);
    expect_fault(cudaErrorIllegalAddress, "ncclAllReduce: source: [", "+20) is not inside", NULL);
    NCCL(ncclCommDestroy(comm));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives),
        cmocka_unit_test(messages),
        cmocka_unit_test(types_and_rank_order),
        cmocka_unit_test(captured_and_replayed),
        cmocka_unit_test(a_busy_host_holds_nobody_up),
        cmocka_unit_test(ranks_hang_fail_and_are_slow),
        cmocka_unit_test(ranks_that_disagree_are_named),
        // These make communicators in this process: its thread would not survive a fork.
        cmocka_unit_test(calls_are_refused),
        cmocka_unit_test_setup_teardown(memory_is_checked, keep_faults, end_on_faults),
    };
    return cmocka_run_group_tests_name("softgpu NCCL", tests, NULL, NULL);
}
