// The gather kernel against the host engines' gather: the same bytes, and nothing beyond.

#include "models/cuda/kernels/gather.h"

#include <stdlib.h>
#include <string.h>

#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

enum { HELD = 37, GUARD = 48 }; // rows to choose from; bytes behind, which stay

static void *to_device(const void *from, size_t bytes)
{
    void *p;
    OK(cudaMalloc(&p, bytes));
    OK(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

// Pictures begin `shift` bytes into their buffer.
static void check_gather(size_t count, size_t row_bytes, size_t shift)
{
    const size_t held = shift + HELD * row_bytes, bytes = shift + count * row_bytes + GUARD;
    struct host_engine host;
    uint8_t *from = malloc(held), *to = malloc(bytes), *got = malloc(bytes);
    int64_t *rows = malloc((count + 1) * sizeof *rows);
    host_only_engine(&host, REAL_F32, 1);
    for (size_t i = 0; i < held; i++)
        from[i] = (uint8_t)(i * 31 + i / 251);
    memset(to, 0xA5, bytes);
    for (size_t i = 0; i <= count; i++)
        rows[i] = (int64_t)(i * 23 + 5) % HELD;
    uint8_t *device_from = to_device(from, held), *device_to = to_device(to, bytes);
    int64_t *device_rows = to_device(rows, (count + 1) * sizeof *rows);
    OK(gather_launch(device_to + shift, device_from + shift, device_rows, count, row_bytes, NULL));
    OK(cudaMemcpy(got, device_to, bytes, cudaMemcpyDeviceToHost));
    assert_int_equal(host_gather(&host.base, to + shift, from + shift, rows, count, row_bytes), 0);
    assert_memory_equal(got, to, bytes);
    OK(cudaFree(device_from));
    OK(cudaFree(device_to));
    OK(cudaFree(device_rows));
    free(from);
    free(to);
    free(got);
    free(rows);
}

static void the_bytes_are_the_hosts(void **unused)
{
    (void)unused;
    const size_t row_bytes[] = {1, 75, 192, 768}; // two of them whole units of 16
    for (size_t i = 0; i < sizeof row_bytes / sizeof *row_bytes; i++) {
        check_gather(0, row_bytes[i], 0);
        check_gather(1, row_bytes[i], 0);
        check_gather(29, row_bytes[i], 0);
        check_gather(7, row_bytes[i], 3); // and here not
    }
}

int main(void)
{
    int count;
    if (cudaGetDeviceCount(&count) != cudaSuccess)
        return 77; // no GPU: skipped
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_bytes_are_the_hosts)};
    return cmocka_run_group_tests_name("gather kernel", tests, NULL, NULL);
}
