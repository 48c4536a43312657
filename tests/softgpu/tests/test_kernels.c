// Kernels that are right pass in every order of threads; each planted mistake is named with its
// place.

#include <math.h>
#include <stdlib.h>

#include "planted.h"
#include "support.h"

enum { COUNT = 1000, ROWS = 19, COLUMNS = 13 };

static float *ramp(size_t count)
{
    float *v = malloc(count * sizeof(*v));
    for (size_t i = 0; i < count; i++)
        v[i] = (float)i * 0.5f - 7.0f;
    return v;
}

static void elements_and_tails(void **unused)
{
    (void)unused;
    float *x = ramp(COUNT), out[COUNT];
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        float *dx = device_new(x, sizeof(out)), *to = device_new(NULL, sizeof(out));
        OK(saxpy(to, 3.0f, dx, dx, COUNT, NULL));
        OK(saxpy(NULL, 3.0f, NULL, NULL, 0, NULL));
        device_get(out, to, sizeof(out));
        for (int i = 0; i < COUNT; i++)
            assert_true(out[i] == 4.0f * x[i]);
        softgpu_reset();
    }
    free(x);
}

// What all blocks of one kernel read, the next may write: kernels are ordered.
static void kernels_are_ordered(void **unused)
{
    (void)unused;
    float *x = ramp(COUNT), out;
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        float *dx = device_new(x, COUNT * sizeof(float));
        float *to = device_new(NULL, COUNT * sizeof(float));
        OK(spread(to, dx, COUNT, NULL));
        OK(saxpy(dx, 1.0f, dx, dx, COUNT, NULL));
        device_get(&out, dx, sizeof(out));
        assert_true(out == -14.0f);
        device_get(&out, to + COUNT - 1, sizeof(out));
        assert_true(out == -7.0f);
        softgpu_reset();
    }
    free(x);
}

// Bytes of one word are apart, however much is touched in between.
static void bytes_are_apart(void **unused)
{
    (void)unused;
    enum { PAGES = 70 };
    uint8_t out[2];
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        uint8_t *to = device_new(NULL, PAGES * 4096);
        OK(neighbours(to, PAGES, NULL));
        device_get(out, to + 4096 * (PAGES - 1), 2);
        assert_true(out[0] == 0 && out[1] == 1);
        softgpu_reset();
    }
}

static void shared_memory_and_barriers(void **unused)
{
    (void)unused;
    float *from = ramp(ROWS * COLUMNS), out[COLUMNS][ROWS];
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        float *d = device_new(from, sizeof(out)), *to = device_new(NULL, sizeof(out));
        OK(transpose(to, d, ROWS, COLUMNS, 1, NULL));
        device_get(out, to, sizeof(out));
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++)
                assert_true(out[c][r] == from[r * COLUMNS + c]);
        softgpu_reset();
    }
    free(from);
}

static void shuffles_and_dynamic_shared_memory(void **unused)
{
    (void)unused;
    float *from = ramp(COUNT), sum;
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        float *d = device_new(from, COUNT * sizeof(float)), *to = device_new(NULL, sizeof(float));
        OK(sum_block(to, d, COUNT, 128, NULL));
        device_get(&sum, to, sizeof(sum));
        assert_true(sum == 0.5f * (COUNT * (COUNT - 1) / 2) - 7.0f * COUNT);
        softgpu_reset();
    }
    free(from);
}

// threadfence + atomic order what blocks hand to each other.
static void blocks_meet_at_atomics(void **unused)
{
    (void)unused;
    float *from = ramp(COUNT), sum;
    unsigned zero = 0;
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        float *d = device_new(from, COUNT * sizeof(float)), *to = device_new(NULL, sizeof(float));
        float *parts = device_new(NULL, 5 * sizeof(float));
        unsigned *counter = device_new(&zero, sizeof(zero));
        OK(sum_blocks(to, parts, counter, d, COUNT, 5, 1, NULL));
        device_get(&sum, to, sizeof(sum));
        assert_true(sum == 0.5f * (COUNT * (COUNT - 1) / 2) - 7.0f * COUNT);
        softgpu_reset();
    }
    free(from);
}

static void atomics_count(void **unused)
{
    (void)unused;
    uint8_t from[COUNT];
    unsigned bins[7] = {0}, out[7];
    for (int i = 0; i < COUNT; i++)
        from[i] = (uint8_t)(i * i % 7);
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        uint8_t *d = device_new(from, COUNT);
        unsigned *to = device_new(bins, sizeof(bins));
        OK(histogram(to, d, COUNT, 1, NULL));
        device_get(out, to, sizeof(out));
        unsigned expected[7] = {0};
        for (int i = 0; i < COUNT; i++)
            expected[from[i]]++;
        assert_memory_equal(out, expected, sizeof(out));
        softgpu_reset();
    }
}

static void words_of_a_warp(void **unused)
{
    (void)unused;
    // Lane 8: bits 0, 3, … 30; 0 + … + 31; 5; 36; lane 7; lane 9; its segment's first 3: its own
    const unsigned expected[8] = {0x49249249u, 496, 5, 36, 7, 9, 8, 1};
    unsigned out[8];
    for (int o = 0; o < ORDERS; o++) {
        order_set(o);
        unsigned *to = device_new(NULL, sizeof(out));
        OK(warp_words(to, NULL));
        device_get(out, to, sizeof(out));
        assert_memory_equal(out, expected, sizeof(out));
        int rotated[32], *lanes = device_new(NULL, sizeof(rotated));
        OK(warp_rotate(lanes, 1, NULL));
        device_get(rotated, lanes, sizeof(rotated));
        for (int i = 0; i < 32; i++)
            assert_int_equal(rotated[i], (i + 1) % 32 * 10);
        softgpu_reset();
    }
}

static void halves_round(void **unused)
{
    (void)unused;
    // 1 + 2^-8 is a tie of bf16 and goes to 1; 3.14159 -> bf16 3.140625; fp16 has 11 bits.
    const float from[4] = {1.00390625f, 3.14159f, -0.1f, 200.0f};
    const float bf16_expected[4] = {3.0f, 7.28125f, 0.80078125f, 400.0f};
    const float fp16_expected[4] = {3.0078125f, 7.28125f, 0.7998046875f, 401.0f};
    float bf16[4], fp16[4];
    float *d = device_new(from, sizeof(from)), *b = device_new(NULL, sizeof(bf16));
    float *h = device_new(NULL, sizeof(fp16));
    OK(half_words(b, h, d, 4, NULL));
    device_get(bf16, b, sizeof(bf16));
    device_get(fp16, h, sizeof(fp16));
    assert_memory_equal(bf16, bf16_expected, sizeof(bf16));
    assert_memory_equal(fp16, fp16_expected, sizeof(fp16));
    softgpu_reset();
}

static void shared_memory_is_poisoned_and_module_memory_kept(void **unused)
{
    (void)unused;
    float fresh;
    for (int launch = 0; launch < 2; launch++) {
        float *to = device_new(NULL, sizeof(fresh));
        OK(shared_fresh(to, NULL));
        device_get(&fresh, to, sizeof(fresh));
        assert_true(isnan(fresh));
    }
    int out[6];
    unsigned counted;
    int *to = device_new(NULL, sizeof(out));
    unsigned *c = device_new(NULL, sizeof(counted));
    OK(module_variables(to, c, 6, NULL));
    device_get(out, to, sizeof(out));
    device_get(&counted, c, sizeof(counted));
    const int expected[6] = {2, 3, 5, 7, 2, 3};
    assert_memory_equal(out, expected, sizeof(out));
    assert_int_equal(counted, 6);
    softgpu_reset();
}

// ---- planted mistakes, each in every order

#define PLANTED(call, code, ...)                                                                   \
    for (int o = 0; o < 3; o++) {                                                                  \
        order_set(o);                                                                              \
        float *a = device_new(NULL, 1024), *b = device_new(NULL, 1024);                            \
        (void)b;                                                                                   \
        OK(cudaMemset(a, 0, 1024));                                                                \
        softgpu_set_policy(SOFTGPU_LAZY, 0);                                                       \
        OK(call);                                                                                  \
        expect_fault(code, "planted.cu:", __VA_ARGS__, NULL);                                      \
    }

static void a_missing_barrier(void **unused)
{
    (void)unused;
    PLANTED(transpose(a, b, 8, 8, 0, NULL), cudaErrorLaunchFailure, "race: ", "transpose_kernel",
            "block (0, 0, 0), thread (");
    PLANTED(warp_rotate((int *)a, 0, NULL), cudaErrorLaunchFailure, "race: ", "warp_rotate_kernel");
}

static void a_race(void **unused)
{
    (void)unused;
    PLANTED(write_write((int *)a, 2, 1, NULL), cudaErrorLaunchFailure, "race: writes address ",
            "of its block wrote, unordered, at ");
    PLANTED(write_write((int *)a, 1, 2, NULL), cudaErrorLaunchFailure, "race: writes address ",
            "another block wrote, unordered, at ");
    PLANTED(histogram((unsigned *)a, (const uint8_t *)(a + 64), 40, 0, NULL),
            cudaErrorLaunchFailure, "race: ", "histogram_kernel");
    PLANTED(sum_blocks(a, a + 1, (unsigned *)a + 9, b, 9, 5, 0, NULL), cudaErrorLaunchFailure,
            "race: reads address ", "another block wrote");
}

static void a_misaligned_access(void **unused)
{
    (void)unused;
    PLANTED(misaligned((uint32_t *)a, (const uint32_t *)b, 1, NULL), cudaErrorMisalignedAddress,
            "misaligned access", "misaligned_kernel");
}

static void an_access_out_of_bounds(void **unused)
{
    (void)unused;
    PLANTED(out_of_bounds(a, 256, 1, NULL), cudaErrorIllegalAddress,
            "out of bounds: writes 4 bytes", "out_of_bounds_kernel");
    PLANTED(out_of_bounds(a, -1, 0, NULL), cudaErrorIllegalAddress, "out of bounds: reads 4 bytes");
    PLANTED(out_of_bounds(NULL, 0, 1, NULL), cudaErrorIllegalAddress,
            "out of bounds: writes 4 bytes at address 0");
    float *short_of_two = device_new(NULL, 1022); // the last float begins inside
    OK(cudaMemset(short_of_two, 0, 1022));
    (void)out_of_bounds(short_of_two, 255, 1, NULL);
    expect_fault(cudaErrorIllegalAddress, "out of bounds: writes 4 bytes", NULL);
    PLANTED(array_index(a, 4, NULL), cudaErrorIllegalAddress, "out of bounds: index 4");
    PLANTED(dynamic_index(a, 4, 16, NULL), cudaErrorIllegalAddress, "out of bounds: writes");
}

static void barriers_that_are_not_reached(void **unused)
{
    (void)unused;
    PLANTED(barrier_in_half(a, 8, NULL), cudaErrorLaunchFailure,
            "has returned and does not reach this barrier");
    PLANTED(barriers_apart(a, NULL), cudaErrorLaunchFailure, "other threads wait at another");
}

static void lanes_that_are_not_there(void **unused)
{
    (void)unused;
    PLANTED(shuffle_exited(a, NULL), cudaErrorLaunchFailure,
            "mask 0xffffffff names lane 3, which has returned");
    PLANTED(shuffle_mask(a, NULL), cudaErrorLaunchFailure,
            "reads lane 9, which mask 0xf leaves out");
}

static void launches_that_are_refused(void **unused)
{
    (void)unused;
    float *a = device_new(NULL, 64);
    assert_int_equal(barrier_in_half(a, 1025, NULL), cudaErrorInvalidConfiguration);
    assert_int_equal(sum_block(a, a, 0, 0, NULL), cudaErrorInvalidConfiguration);
    assert_int_equal(dynamic_index(a, 0, 48 * 1024 + 1, NULL), cudaErrorInvalidValue);
    OK(dynamic_index(a, 0, 48 * 1024, NULL));
    OK(cudaDeviceSynchronize());
    softgpu_reset();
}

static void race_to_the_end(void *unused)
{
    (void)unused;
    write_write(device_new(NULL, 4), 2, 1, NULL);
}

// Without softgpu_keep_faults nothing passes over a mistake.
static void a_mistake_ends_the_process(void **unused)
{
    (void)unused;
    char line[1024];
    assert_int_equal(in_child(race_to_the_end, NULL, line, sizeof(line)), SOFTGPU_EXIT);
    assert_ptr_equal(strstr(line, "softgpu: "), line);
    assert_non_null(strstr(line, "race: writes address"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_and_tails),
        cmocka_unit_test(kernels_are_ordered),
        cmocka_unit_test(bytes_are_apart),
        cmocka_unit_test(shared_memory_and_barriers),
        cmocka_unit_test(shuffles_and_dynamic_shared_memory),
        cmocka_unit_test(blocks_meet_at_atomics),
        cmocka_unit_test(atomics_count),
        cmocka_unit_test(words_of_a_warp),
        cmocka_unit_test(halves_round),
        cmocka_unit_test(shared_memory_is_poisoned_and_module_memory_kept),
        cmocka_unit_test_setup_teardown(a_missing_barrier, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(a_race, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(a_misaligned_access, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(an_access_out_of_bounds, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(barriers_that_are_not_reached, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(lanes_that_are_not_there, keep_faults, end_on_faults),
        cmocka_unit_test_setup_teardown(launches_that_are_refused, keep_faults, end_on_faults),
        cmocka_unit_test(a_mistake_ends_the_process),
    };
    return cmocka_run_group_tests_name("softgpu kernels", tests, NULL, NULL);
}
