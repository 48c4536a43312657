// bf16 on ordinary memory, on any processor: rounding, and the kernels that are the project's own,
// against the same ones in f32, whose result is rounded.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith/bfloat16.h"
#include "models/cpu/network.h"
#include "models/cpu/norm_kernels.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), 0)

static void rounding_is_to_nearest_even(void **state)
{
    (void)state;
    static const struct {
        float from;
        uint16_t to;
    } CASES[] = {
        {1.0F, 0x3f80},          {1.00390625F, 0x3f80}, // a tie: to even
        {1.01171875F, 0x3f82},                          // a tie: to even, upwards
        {1.003907F, 0x3f81},     {-1.003907F, 0xbf81},  {0.0F, 0},
        {-0.0F, 0x8000},         {1e-45F, 0},           {3.4e38F, 0x7f80}, // beyond the largest
        {3.3895313e38F, 0x7f7f}, {HUGE_VALF, 0x7f80},   {-HUGE_VALF, 0xff80},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++)
        assert_int_equal(bfloat16_from_float(CASES[i].from), CASES[i].to);
    for (uint32_t h = 0; h < 0x10000; h++) {
        float v = bfloat16_to_float((uint16_t)h);
        if (isnan(v))
            assert_true(isnan(bfloat16_to_float(bfloat16_from_float(v))));
        else
            assert_int_equal(bfloat16_from_float(v), h);
    }
    uint32_t all_ones = 0x7fffffff; // a NaN that rounding would carry over
    float nan;
    memcpy(&nan, &all_ones, sizeof(nan));
    assert_true(isnan(bfloat16_to_float(bfloat16_from_float(nan))));
}

// ---- one layer in both types

enum { CHANNELS = 21, PADDED = 32, HEIGHT = 7, WIDTH = 5, COUNT = 3 };
enum { ELEMENTS = COUNT * HEIGHT * WIDTH * PADDED };

// Values that bf16 has, once as such and once as f32; one of them is NaN.
struct tensor {
    uint16_t narrow[ELEMENTS];
    float wide[ELEMENTS];
};

static void fill(struct tensor *t, uint64_t seed)
{
    for (int i = 0; i < ELEMENTS; i++) {
        bool padding = i % PADDED >= CHANNELS;
        t->narrow[i] = bfloat16_from_float(padding ? 0.0F : (float)test_uniform(seed, (uint64_t)i));
        t->wide[i] = bfloat16_to_float(t->narrow[i]);
    }
}

static void check_rounded(const struct tensor *t, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (isnan(t->wide[i]))
            assert_true(isnan(bfloat16_to_float(t->narrow[i])));
        else
            assert_int_equal(t->narrow[i], bfloat16_from_float(t->wide[i]));
}

// A network of one layer that has no oneDNN.
struct alone {
    struct cpu_engine engine;
    struct cpu_network network;
    struct layer layer;
};

static void alone_init(struct alone *a, bool narrow, int threads, const struct node *node)
{
    *a = (struct alone){.network.host.count = COUNT};
    host_only_engine(&a->engine.host, REAL_F32, threads);
    a->engine.dnn.narrow = true; // its layout, in either type
    a->network.engine = &a->engine;
    a->network.first = &a->network;
    a->layer.node = node;
    a->layer.in = (struct shape){.channels = CHANNELS,
                                 .padded = PADDED,
                                 .height = HEIGHT,
                                 .width = WIDTH,
                                 .blocked = true,
                                 .narrow = narrow};
    a->layer.out = a->layer.in;
}

static void pools_round_once(void **state)
{
    (void)state;
    for (int kernel = 2; kernel <= 3; kernel++)
        for (int threads = 1; threads <= 2; threads++) {
            static struct tensor x, y, dx;
            struct node node = {.kernel = kernel};
            fill(&x, 1);
            x.narrow[40] = 0x7fc0;
            x.wide[40] = nanf("");
            memset(&y, 0, sizeof(y));
            for (int narrow = 0; narrow < 2; narrow++) {
                struct alone a;
                alone_init(&a, narrow, threads, &node);
                a.layer.out.height /= kernel;
                a.layer.out.width /= kernel;
                a.layer.x = narrow ? (void *)x.narrow : x.wide;
                a.layer.y = narrow ? (void *)y.narrow : y.wide;
                OK(POOL_LAYER.forward(&a.network, &a.layer, NULL));
                a.layer.dy = narrow ? (void *)x.narrow : x.wide; // any numbers
                a.layer.dx = narrow ? (void *)dx.narrow : dx.wide;
                OK(POOL_LAYER.backward(&a.network, &a.layer, NULL, NULL));
            }
            size_t outputs = (size_t)COUNT * (HEIGHT / kernel) * (WIDTH / kernel) * PADDED;
            assert_true(y.wide[PADDED] != 0.0F);
            check_rounded(&y, outputs);
            check_rounded(&dx, ELEMENTS);
        }
}

static void relu_takes_either_type(void **state)
{
    (void)state;
    static struct tensor x, y, dy;
    fill(&x, 1);
    fill(&dy, 2);
    for (int narrow = 0; narrow < 2; narrow++) {
        struct alone a;
        alone_init(&a, narrow, 2, NULL);
        a.layer.x = narrow ? (void *)x.narrow : x.wide;
        a.layer.y = narrow ? (void *)y.narrow : y.wide;
        a.layer.dx = a.layer.dy = narrow ? (void *)dy.narrow : dy.wide;
        OK(RELU_LAYER.forward(&a.network, &a.layer, NULL));
        OK(RELU_LAYER.backward(&a.network, &a.layer, NULL, NULL));
    }
    for (int i = 0; i < ELEMENTS; i++) {
        assert_true(y.wide[i] == (x.wide[i] > 0.0F ? x.wide[i] : 0.0F));
        assert_true(x.wide[i] > 0.0F || dy.wide[i] == 0.0F);
    }
    check_rounded(&y, ELEMENTS);
    check_rounded(&dy, ELEMENTS);
}

// ---- BatchNorm

struct norm_results {
    double sums[4][CHANNELS];
    struct tensor y, dx;
};

static void norm_all(struct norm_results *r, const struct tensor *x, const struct tensor *dy,
                     bool narrow, int threads)
{
    static float vectors[5][PADDED];
    for (int v = 0; v < 5; v++)
        for (int c = 0; c < PADDED; c++)
            vectors[v][c] = c < CHANNELS ? 0.4F * (float)test_uniform(7, v * PADDED + c) : 0.0F;
    struct norm_work w = {.threads = threads,
                          .count = COUNT,
                          .planes = 1,
                          .lanes = PADDED,
                          .pixels = (size_t)HEIGHT * WIDTH,
                          .relu = true,
                          .narrow = narrow,
                          .x = narrow ? (const void *)x->narrow : x->wide,
                          .mean = vectors[0],
                          .factor = vectors[1],
                          .shift = vectors[2],
                          .base = vectors[3],
                          .slope = vectors[4]};
    const void *gradient = narrow ? (const void *)dy->narrow : dy->wide;
    w.partials = calloc(norm_partials(&w), sizeof(double));
    norm_moments(&w, CHANNELS, r->sums[0], r->sums[1]);
    norm_apply(&w, narrow ? (void *)r->y.narrow : r->y.wide);
    norm_gradient_sums(&w, gradient, CHANNELS, r->sums[2], r->sums[3]);
    norm_gradient(&w, gradient, narrow ? (void *)r->dx.narrow : r->dx.wide);
    free(w.partials);
}

// Sums are of the same numbers in the same order, so they are the same bits; what is stored is
// f32's result, rounded. On any number of threads.
static void batchnorm_rounds_once(void **state)
{
    (void)state;
    static struct tensor x, dy;
    static struct norm_results one, two, wide;
    fill(&x, 3);
    fill(&dy, 4);
    x.narrow[PADDED + 3] = 0x7fc0;
    x.wide[PADDED + 3] = nanf("");
    norm_all(&wide, &x, &dy, false, 1);
    norm_all(&one, &x, &dy, true, 1);
    norm_all(&two, &x, &dy, true, 2);
    assert_memory_equal(one.sums, wide.sums, sizeof(one.sums));
    assert_memory_equal(&one, &two, sizeof(one));
    assert_true(isnan(wide.y.wide[PADDED + 3]) && isnan(wide.sums[0][3]));
    memcpy(one.y.wide, wide.y.wide, sizeof(one.y.wide));
    memcpy(one.dx.wide, wide.dx.wide, sizeof(one.dx.wide));
    check_rounded(&one.y, ELEMENTS);
    check_rounded(&one.dx, ELEMENTS);
}

// ---- layouts

// Pictures [C, H, W] in f32 to pixels of padded channels in bf16; those to rows in (C, H, W) order,
// and their gradients back; rows of padded f32 to plain ones.
static void layouts_keep_places(void **state)
{
    (void)state;
    enum { PIXELS = HEIGHT * WIDTH, FEATURES = CHANNELS * PIXELS, ROW = (FEATURES + 15) / 16 * 16 };
    static float pictures[COUNT * FEATURES], plain[COUNT * CHANNELS], padded[COUNT * PADDED];
    static uint16_t pixels[ELEMENTS], rows[COUNT * ROW], back[ELEMENTS];
    struct alone a;
    for (int i = 0; i < COUNT * FEATURES; i++)
        pictures[i] = (float)test_uniform(5, (uint64_t)i);
    memset(pixels, 0xff, sizeof(pixels));
    memset(rows, 0xff, sizeof(rows));
    memset(back, 0xff, sizeof(back));

    alone_init(&a, true, 2, NULL);
    a.network.pictures = pictures;
    a.layer.in =
        (struct shape){.channels = CHANNELS, .padded = CHANNELS, .height = HEIGHT, .width = WIDTH};
    a.layer.y = pixels;
    OK(LAYOUT_LAYER.forward(&a.network, &a.layer, NULL));
    OK(LAYOUT_LAYER.backward(&a.network, &a.layer, NULL, NULL)); // nobody asks for theirs

    alone_init(&a, true, 2, NULL);
    a.layer.out = (struct shape){.channels = FEATURES,
                                 .padded = ROW,
                                 .height = 1,
                                 .width = 1,
                                 .blocked = true,
                                 .narrow = true};
    a.layer.x = pixels;
    a.layer.y = a.layer.dy = rows;
    a.layer.dx = back;
    OK(LAYOUT_LAYER.forward(&a.network, &a.layer, NULL));
    OK(LAYOUT_LAYER.backward(&a.network, &a.layer, NULL, NULL));
    for (int i = 0; i < COUNT; i++) {
        for (int p = 0; p < PIXELS; p++)
            for (int c = 0; c < PADDED; c++) {
                uint16_t expected =
                    c < CHANNELS ? bfloat16_from_float(pictures[(i * CHANNELS + c) * PIXELS + p])
                                 : 0;
                assert_int_equal(pixels[(i * PIXELS + p) * PADDED + c], expected);
                assert_int_equal(back[(i * PIXELS + p) * PADDED + c], expected);
            }
        for (int f = 0; f < ROW; f++)
            assert_int_equal(rows[i * ROW + f],
                             f < FEATURES ? bfloat16_from_float(pictures[i * FEATURES + f]) : 0);
    }

    alone_init(&a, false, 1, NULL);
    a.layer.in.height = a.layer.in.width = 1;
    a.layer.out = (struct shape){.channels = CHANNELS, .padded = CHANNELS, .height = 1, .width = 1};
    for (int i = 0; i < COUNT * PADDED; i++)
        padded[i] = (float)test_uniform(6, (uint64_t)i);
    a.layer.x = padded;
    a.layer.y = a.layer.dy = plain;
    a.layer.dx = back;
    OK(LAYOUT_LAYER.forward(&a.network, &a.layer, NULL));
    OK(LAYOUT_LAYER.backward(&a.network, &a.layer, NULL, NULL)); // of logits, which are rounded
    for (int i = 0; i < COUNT; i++)
        for (int c = 0; c < PADDED; c++) {
            if (c < CHANNELS)
                assert_true(plain[i * CHANNELS + c] == padded[i * PADDED + c]);
            assert_int_equal(back[i * PADDED + c],
                             c < CHANNELS ? bfloat16_from_float(padded[i * PADDED + c]) : 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_is_to_nearest_even), cmocka_unit_test(pools_round_once),
        cmocka_unit_test(relu_takes_either_type),      cmocka_unit_test(batchnorm_rounds_once),
        cmocka_unit_test(layouts_keep_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
