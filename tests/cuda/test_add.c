// The add kernel against the host's sum: the same bits, and nothing beyond.

#include "models/cuda/kernels/add.h"

#include <stdlib.h>
#include <string.h>

#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

enum { GUARD = 3 }; // elements before and behind, which stay

static void set_real(void *values, size_t i, double x, enum real_type type)
{
    if (type == REAL_F64)
        ((double *)values)[i] = x;
    else
        ((float *)values)[i] = (float)x;
}

static void add_on_host(void *to, const void *from, size_t count, enum real_type type)
{
    for (size_t i = 0; i < count; i++)
        if (type == REAL_F64)
            ((double *)to)[i] += ((const double *)from)[i];
        else
            ((float *)to)[i] += ((const float *)from)[i];
}

static void check_add(size_t count, enum real_type type)
{
    const size_t one = real_bytes(type), all = count + 2 * GUARD, bytes = all * one;
    char *to = malloc(bytes), *from = malloc(bytes), *got = malloc(bytes);
    void *device_to, *device_from;
    for (size_t i = 0; i < all; i++) { // of several magnitudes: sums are rounded
        set_real(to, i, test_uniform(1, i) * (double)(1 << i % 9), type);
        set_real(from, i, test_uniform(2, i) * (double)(1 << i % 7), type);
    }
    OK(cudaMalloc(&device_to, bytes));
    OK(cudaMalloc(&device_from, bytes));
    OK(cudaMemcpy(device_to, to, bytes, cudaMemcpyHostToDevice));
    OK(cudaMemcpy(device_from, from, bytes, cudaMemcpyHostToDevice));
    OK(add_launch((char *)device_to + GUARD * one, (char *)device_from + GUARD * one, count, type,
                  NULL));
    OK(cudaMemcpy(got, device_to, bytes, cudaMemcpyDeviceToHost));
    add_on_host(to + GUARD * one, from + GUARD * one, count, type);
    assert_memory_equal(got, to, bytes);
    OK(cudaFree(device_to));
    OK(cudaFree(device_from));
    free(to);
    free(from);
    free(got);
}

static void the_bits_are_the_hosts(void **unused)
{
    (void)unused;
    const size_t counts[] = {0, 1, 255, 1024, 1025, 20011};
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        check_add(counts[i], REAL_F32);
        check_add(counts[i], REAL_F64);
    }
}

int main(void)
{
    int count;
    if (cudaGetDeviceCount(&count) != cudaSuccess)
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_bits_are_the_hosts)};
    return cmocka_run_group_tests_name("add kernel", tests, NULL, NULL);
}
