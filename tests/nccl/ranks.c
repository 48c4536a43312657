// Collectives between GPUs: the bits of the tree, and of MPI's ranks; by NCCL, and, with one GPU
// for all, through host memory.
//
//   ranks nccl|shared: what it must choose; nothing: whatever the machine has GPUs for

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/comm/collectives.h"
#include "tests/comm/values.h"
#include "tests/nccl/gpu.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

enum { STAGING_BYTES = 4096 }; // less than most tests send: pieces

static struct gpu_rank rank; // cmocka hands on no argument of the group's
static const char *wanted;

static const struct test_memory *const gpu = &test_memory_gpu;

static float *values_of(int r, size_t count)
{
    float *values = test_allocate(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)test_value(r, i);
    return values;
}

static void test_the_way_is_the_right_one(void **state)
{
    (void)state;
    const char *text = device_comm_describe(rank.device);
    if (wanted && strcmp(wanted, "shared") == 0 && comm_size(rank.comm) > 1) {
        const char *pair = comm_size(rank.comm) == 2 ? "ranks 0 and 1" : "ranks 0 and 2";
        char expected[64];
        snprintf(expected, sizeof expected, "host memory: %s share a GPU", pair);
        assert_string_equal(text, expected); // three ranks have two GPUs
        assert_false(device_comm_capturable(rank.device));
    } else if (wanted) {
        assert_ptr_equal(strstr(text, "NCCL 2."), text);
        assert_true(device_comm_capturable(rank.device));
    }
}

// What the ranks sum by MPI on the host, and on their GPUs.
static void test_the_bits_are_those_of_mpi(void **state)
{
    (void)state;
    const size_t count = 5003, bytes = count * sizeof(float);
    float *host = values_of(comm_rank(rank.comm), count), *got = test_allocate(bytes);
    void *data = gpu->create(bytes);
    gpu->put(data, host, bytes);
    assert_int_equal(comm_allreduce_sum(rank.comm, data, count, REAL_F32, true), 0);
    assert_int_equal(comm_wait(rank.comm), 0);
    gpu->get(got, data, bytes);
    comm_attach_device(rank.comm, NULL);
    assert_int_equal(comm_allreduce_sum(rank.comm, host, count, REAL_F32, true), 0);
    comm_attach_device(rank.comm, rank.device);
    assert_memory_equal(got, host, bytes);
    gpu->destroy(data);
    free(got);
    free(host);
}

// Host memory goes on through MPI while a device is attached.
static void test_host_collectives_go_on(void **state)
{
    (void)state;
    struct comm *c = rank.comm;
    const int size = comm_size(c), mine = 100 + comm_rank(c);
    int *all = test_allocate((size_t)size * sizeof *all), first = comm_rank(c) ? 0 : 7;
    assert_int_equal(comm_allgather(c, &mine, sizeof mine, all), 0);
    for (int r = 0; r < size; r++)
        assert_int_equal(all[r], 100 + r);
    assert_int_equal(comm_broadcast(c, &first, sizeof first, 0), 0);
    assert_int_equal(first, 7);
    assert_int_equal(comm_agree(c, mine), 100 + size - 1);
    assert_int_equal(comm_barrier(c), 0);
    free(all);
}

// Work of the rank's stream that was queued after a sum beside it is done while the last rank's GPU
// has not come to that sum.
static void test_a_sum_runs_beside_the_stream(void **state)
{
    (void)state;
    const size_t count = 1500, bytes = count * sizeof(float);
    const bool late = comm_rank(rank.comm) == comm_size(rank.comm) - 1;
    if (!comm_overlaps(rank.comm))
        return; // through host memory
    float *mine = values_of(comm_rank(rank.comm), count), *got = test_allocate(bytes);
    void *a = gpu->create(bytes), *b = gpu->create(bytes);
    gpu->put(a, mine, bytes);
    if (!late) {
        assert_int_equal(comm_allreduce_beside(rank.comm, a, count, REAL_F32, true), 0);
        OK(cudaMemsetAsync(b, 0, bytes, rank.stream));
        OK(cudaStreamSynchronize(rank.stream));
    }
    assert_int_equal(comm_barrier(rank.comm), 0);
    if (late)
        assert_int_equal(comm_allreduce_beside(rank.comm, a, count, REAL_F32, true), 0);
    assert_int_equal(comm_join(rank.comm), 0);
    assert_int_equal(comm_wait(rank.comm), 0);
    gpu->get(got, a, bytes);
    gpu->put(b, mine, bytes);
    assert_int_equal(comm_allreduce_sum(rank.comm, b, count, REAL_F32, true), 0);
    assert_int_equal(comm_wait(rank.comm), 0);
    gpu->get(mine, b, bytes);
    assert_memory_equal(got, mine, bytes);
    gpu->destroy(a);
    gpu->destroy(b);
    free(mine);
    free(got);
}

// What a step queues: two buckets beside the stream, between them a sum on it, then what needs both
// buckets.
struct buckets {
    char *from, *data, *other, *out;
    size_t count;
};

static void queue_buckets(const struct buckets *b)
{
    const size_t bytes = b->count * sizeof(float), half = b->count / 2;
    OK(cudaMemcpyAsync(b->data, b->from, bytes, cudaMemcpyDeviceToDevice, rank.stream));
    assert_int_equal(comm_allreduce_beside(rank.comm, b->data + half * sizeof(float),
                                           b->count - half, REAL_F32, true),
                     0);
    OK(cudaMemcpyAsync(b->other, b->from, bytes, cudaMemcpyDeviceToDevice, rank.stream));
    assert_int_equal(comm_allreduce_sum(rank.comm, b->other, b->count, REAL_F32, true), 0);
    assert_int_equal(comm_allreduce_beside(rank.comm, b->data, half, REAL_F32, true), 0);
    assert_int_equal(comm_join(rank.comm), 0);
    OK(cudaMemcpyAsync(b->out, b->data, bytes, cudaMemcpyDeviceToDevice, rank.stream));
}

static cudaGraphExec_t capture_buckets(const struct buckets *b)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    OK(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal));
    queue_buckets(b);
    OK(cudaStreamEndCapture(rank.stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    return exec;
}

// Queued, then replayed, with other numbers each time: the bits of the sum that is whole.
static void test_buckets_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    const size_t count = 3001, bytes = count * sizeof(float);
    struct buckets b = {gpu->create(bytes), gpu->create(bytes), gpu->create(bytes),
                        gpu->create(bytes), count};
    float *whole = test_allocate(bytes), *got = test_allocate(bytes);
    cudaGraphExec_t exec = NULL;
    for (int round = 0; round < 4; round++) {
        float *values = values_of(comm_rank(rank.comm) + 10 * round, count);
        gpu->put(b.from, values, bytes);
        if (round == 1 && device_comm_capturable(rank.device))
            exec = capture_buckets(&b);
        if (exec)
            OK(cudaGraphLaunch(exec, rank.stream));
        else
            queue_buckets(&b);
        assert_int_equal(comm_wait(rank.comm), 0);
        gpu->get(got, b.out, bytes);
        gpu->get(whole, b.other, bytes);
        assert_memory_equal(got, whole, bytes);
        gpu->put(b.data, values, bytes);
        assert_int_equal(comm_allreduce_sum(rank.comm, b.data, count, REAL_F32, true), 0);
        assert_int_equal(comm_wait(rank.comm), 0);
        gpu->get(got, b.data, bytes);
        assert_memory_equal(got, whole, bytes);
        free(values);
    }
    if (exec)
        OK(cudaGraphExecDestroy(exec));
    char *owned[] = {b.from, b.data, b.other, b.out};
    for (int i = 0; i < 4; i++)
        gpu->destroy(owned[i]);
    free(whole);
    free(got);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_way_is_the_right_one),
        cmocka_unit_test(test_the_bits_are_those_of_mpi),
        cmocka_unit_test(test_host_collectives_go_on),
        cmocka_unit_test(test_a_sum_runs_beside_the_stream),
        cmocka_unit_test(test_buckets_have_the_bits_of_the_whole),
    };
    wanted = argc > 1 ? argv[1] : NULL;
    if (!gpu_rank_open(&rank))
        return 77; // no GPU: skipped
    gpu_rank_connect(&rank, STAGING_BYTES, 60.0);
    comm_attach_device(rank.comm, rank.device);
    int failed = cmocka_run_group_tests_name("GPUs", tests, NULL, NULL);
    failed += engine_memory_run(rank.comm, gpu);
    if (failed)
        comm_abort(rank.comm, RETORT_FAILED); // the others may wait for this rank
    gpu_rank_close(&rank);
    return 0;
}
