#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith/half.h"
#include "base/error.h"
#include "tests/models/support.h"

// ---- f16: every value there is, and every place between two

static void halves_survive_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        int fits = 1;
        if ((h & 0x7c00u) == 0x7c00u) { // infinities and NaN do not fit, on purpose
            double v = half_to_double((uint16_t)h);
            assert_true((h & 0x3ffu) != 0 ? isnan(v) : isinf(v));
            half_from_double(v, &fits);
            assert_int_equal(fits, 0);
            continue;
        }
        assert_int_equal(half_from_double(half_to_double((uint16_t)h), &fits), h);
        assert_int_equal(fits, 1);
    }
    assert_true(half_to_double(0x3c00) == 1.0);
    assert_true(half_to_double(0xc248) == -3.140625);
    assert_true(half_to_double(0x0001) == ldexp(1.0, -24));
    assert_true(half_to_double(0x0400) == ldexp(1.0, -14));
    assert_true(half_to_double(0x7bff) == HALF_MAX);
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    int fits = 1;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        double low = half_to_double(h), high = half_to_double((uint16_t)(h + 1));
        double middle = 0.5 * (low + high);
        assert_int_equal(half_from_double(middle, &fits), h + (h & 1));
        assert_int_equal(half_from_double(nextafter(middle, 0.0), &fits), h);
        assert_int_equal(half_from_double(-nextafter(middle, high), &fits), 0x8000 | (h + 1));
    }
    assert_int_equal(half_from_double(65519.9, &fits), 0x7bff);
    assert_int_equal(half_from_double(5e-324, &fits), 0);
    assert_int_equal(fits, 1);
    half_from_double(-65520.0, &fits);
    assert_int_equal(fits, 0);
}

static void logits_become_halves(void **state)
{
    (void)state;
    struct bench b;
    double logits[6] = {1.0, -2.5, 65504.0, 0.1, 1e-9, -65519.0};
    uint16_t out[6];
    bench_open_identity(&b, "reference", 3, 2);
    bench_pictures(&b, logits, 2);
    bench_loss(&b, FORWARD_EVAL);
    assert_int_equal(network_logits_f16(b.network, out), 0);
    const uint16_t expected[6] = {0x3c00, 0xc100, 0x7bff, 0x2e66, 0x0000, 0xfbff};
    assert_memory_equal(out, expected, sizeof(expected));
    logits[4] = 65520.0;
    bench_pictures(&b, logits, 2);
    bench_loss(&b, FORWARD_EVAL);
    assert_int_equal(network_logits_f16(b.network, out), RETORT_NUMERIC);
    bench_close(&b);
}

// ---- arenas

static void not_finite_is_found_wherever_it_is(void **state)
{
    (void)state;
    enum { COUNT = 37 };
    struct host_engine host;
    const double broken[] = {nan(""), HUGE_VAL, -HUGE_VAL};
    for (int real = 0; real < 2; real++) {
        struct engine *e = host_only_engine(&host, real == 0 ? REAL_F32 : REAL_F64, 1);
        float narrow[COUNT];
        double wide[COUNT];
        const void *values = real == 0 ? (const void *)narrow : wide;
        bool finite;
        for (int i = 0; i < COUNT; i++) {
            wide[i] = i % 2 == 0 ? (double)FLT_MAX : -(double)FLT_MAX;
            narrow[i] = (float)wide[i];
        }
        assert_int_equal(engine_all_finite(e, values, COUNT, &finite), 0);
        assert_true(finite);
        for (int i = 0; i < COUNT * 3; i++) {
            double kept = wide[i / 3];
            wide[i / 3] = broken[i % 3];
            narrow[i / 3] = (float)broken[i % 3];
            assert_int_equal(engine_all_finite(e, values, COUNT, &finite), 0);
            assert_false(finite);
            wide[i / 3] = kept;
            narrow[i / 3] = (float)kept;
        }
    }
}

static void arenas_add_and_convert(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    for (int real = 0; real < 2; real++) {
        struct host_engine host;
        struct engine *e = host_only_engine(&host, real == 0 ? REAL_F32 : REAL_F64, 2);
        size_t bytes = COUNT * real_bytes(engine_real(e));
        float *plain = test_malloc(COUNT * sizeof(float));
        void *a = engine_alloc(e, bytes), *b = engine_alloc(e, bytes);
        assert_int_equal((uintptr_t)a % 64, 0);
        for (int i = 0; i < COUNT; i++)
            plain[i] = (float)test_uniform(1, i);
        assert_int_equal(engine_from_f32(e, a, plain, COUNT), 0);
        assert_int_equal(engine_from_f32(e, b, plain, COUNT), 0);
        assert_int_equal(engine_add(e, a, b, COUNT, engine_real(e)), 0);
        assert_int_equal(engine_to_f32(e, plain, a, COUNT), 0);
        for (int i = 0; i < COUNT; i++)
            assert_true(plain[i] == 2.0f * (float)test_uniform(1, i));
        assert_int_equal(engine_zero(e, a, bytes), 0);
        assert_int_equal(engine_to_f32(e, plain, a, COUNT), 0);
        for (int i = 0; i < COUNT; i++)
            assert_true(plain[i] == 0.0f);
        engine_free(e, a);
        engine_free(e, b);
        test_free(plain);
    }
}

struct parts {
    unsigned char seen[100];
    size_t grain;
    int most;
};

static void note_part(void *context, int part, size_t begin, size_t end)
{
    struct parts *p = context;
    assert_true(part < p->most);
    assert_int_equal(begin % p->grain, 0);
    assert_true(begin < end);
    for (size_t i = begin; i < end; i++)
        p->seen[i]++;
}

static void parts_cover_everything_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads++)
        for (size_t count = 0; count <= 100; count += 9)
            for (size_t grain = 1; grain <= 64; grain *= 8) {
                struct parts p = {.grain = grain, .most = threads};
                host_parallel(threads, count, grain, note_part, &p);
                for (size_t i = 0; i < 100; i++)
                    assert_int_equal(p.seen[i], i < count);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_survive_the_round_trip),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(logits_become_halves),
        cmocka_unit_test(not_finite_is_found_wherever_it_is),
        cmocka_unit_test(arenas_add_and_convert),
        cmocka_unit_test(parts_cover_everything_once),
    };
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
