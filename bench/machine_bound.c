// machine_bound: what this machine's cores could do at most, all of them at once, as one JSON
// object: f32 multiply-adds a second in registers, and bytes a second that a stream triad
// (a = b + s c) moves to and from memory. Built by vs_pytorch for the processor at hand.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <omp.h>

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif
typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
enum {
    LANES = VECTOR_BYTES / sizeof(float),
    SUMS = 12, // independent ones: more than latency x units
    ROUNDS = 20000000,
    TRIAD_FLOATS = 1 << 25, // 128 MB an array: far more than caches hold
    REPEATS = 5
};

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// One thread's; the sums are returned, so that they must be made.
static float multiply_add(float factor)
{
    vector sum[SUMS], x = (vector){0} + factor, y = (vector){0} + 1e-3f;
    float all = 0.0f;
    for (int i = 0; i < SUMS; i++)
        sum[i] = (vector){0} + (float)i;
    for (long r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++)
            sum[i] = sum[i] * x + y;
        __asm__ volatile("" : "+x"(x)); // not to be reasoned away
    }
    for (int i = 0; i < SUMS; i++)
        all += sum[i][0];
    return all;
}

static double peak_flops(void)
{
    double best = 0.0, count = 2.0 * ROUNDS * SUMS * LANES * omp_get_max_threads();
    volatile float sink = 0.0f;
    for (int k = 0; k < REPEATS; k++) {
        double start = seconds();
#pragma omp parallel
        {
            float made = multiply_add(0.999f);
#pragma omp critical
            sink = sink + made;
        }
        double rate = count / (seconds() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

static double stream_bytes(void)
{
    float *a = malloc(TRIAD_FLOATS * sizeof *a), *b = malloc(TRIAD_FLOATS * sizeof *b),
          *c = malloc(TRIAD_FLOATS * sizeof *c);
    double best = 0.0;
    if (!a || !b || !c)
        exit(1);
#pragma omp parallel for
    for (long i = 0; i < TRIAD_FLOATS; i++) {
        a[i] = 0.0f;
        b[i] = 1.0f;
        c[i] = 2.0f;
    }
    for (int k = 0; k < REPEATS; k++) {
        double start = seconds();
#pragma omp parallel for
        for (long i = 0; i < TRIAD_FLOATS; i++)
            a[i] = b[i] + 3.0f * c[i];
        double rate = 3.0 * sizeof *a * TRIAD_FLOATS / (seconds() - start);
        best = rate > best ? rate : best;
    }
    if (a[TRIAD_FLOATS / 2] != 7.0f)
        exit(1);
    free(a);
    free(b);
    free(c);
    return best;
}

int main(void)
{
    double flops = peak_flops(), bytes = stream_bytes();
    printf("{\"cores\": %d, \"f32_gflops_per_s\": %.1f, \"stream_gbytes_per_s\": %.1f}\n",
           omp_get_max_threads(), flops * 1e-9, bytes * 1e-9);
    return 0;
}
