// Our own convolution kernels, for every instruction set the processor has, against sums in double.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/cpu/strided.h"
#include "models/cpu/winograd.h"
#include "tests/models/support.h"

static const double LIMIT = 3e-6; // norm over norm

struct kernel_set {
    const char *name;
    int lanes;
    const struct winograd_kernels *winograd;
    const struct strided_kernels *strided;
};

// The sets this processor has, in sets[2].
static int find_sets(struct kernel_set *sets)
{
    int count = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sets[count++] = (struct kernel_set){"avx2", 8, &WINOGRAD_AVX2, &STRIDED_AVX2};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma"))
        sets[count++] = (struct kernel_set){"avx512", 16, &WINOGRAD_AVX512, &STRIDED_AVX512};
#endif
    (void)sets;
    return count;
}

// Channels, size of the input, samples, threads: all remainders of blocks, tiles and pixels.
struct problem {
    int in, out, height, width, stride, count, threads;
};
static const struct problem PROBLEMS[] = {
    {1, 1, 1, 1, 1, 1, 1},    {3, 12, 5, 7, 1, 2, 1},    {12, 12, 12, 9, 1, 3, 2},
    {7, 24, 8, 8, 1, 5, 1},   {24, 7, 6, 13, 1, 2, 3},   {17, 33, 9, 10, 1, 3, 1},
    {48, 40, 4, 4, 1, 25, 1}, {40, 56, 4, 4, 1, 50, 2},  {20, 100, 16, 16, 1, 3, 1},
    {65, 64, 5, 4, 1, 3, 1}, // transformed weights go past the caches
    {1, 1, 1, 1, 2, 1, 1},    {3, 12, 5, 8, 2, 2, 1},    {12, 24, 16, 14, 2, 3, 2},
    {7, 40, 9, 9, 2, 5, 1},   {24, 48, 32, 17, 2, 2, 3}, {17, 33, 10, 3, 2, 3, 1},
    {56, 8, 8, 8, 2, 4, 1},   {40, 96, 8, 8, 2, 5, 2},
};

// Tensors of one problem; blocked ones are padded with zeros.
struct tensors {
    struct problem p;
    int lanes, out_height, out_width;
    float *x, *y, *dx, *dy; // blocked
    float *weights, *gradient, *bias;
};

static size_t blocked_count(const struct tensors *t, int channels, int height, int width)
{
    int padded = (channels + t->lanes - 1) / t->lanes * t->lanes;
    return (size_t)t->p.count * padded * height * width;
}

static size_t blocked_at(const struct tensors *t, int channels, int height, int width, int n, int c,
                         int h, int w)
{
    size_t plane = (size_t)n * ((channels + t->lanes - 1) / t->lanes) + c / t->lanes;
    return ((plane * height + h) * width + w) * t->lanes + c % t->lanes;
}

static float *x_at(const struct tensors *t, float *x, int n, int c, int h, int w)
{
    return &x[blocked_at(t, t->p.in, t->p.height, t->p.width, n, c, h, w)];
}

static float *y_at(const struct tensors *t, float *y, int n, int c, int h, int w)
{
    return &y[blocked_at(t, t->p.out, t->out_height, t->out_width, n, c, h, w)];
}

static float *floats(size_t count)
{
    float *p = host_calloc(count * sizeof(float));
    assert_non_null(p);
    return p;
}

static void fill(const struct tensors *t, float *values, int channels, int height, int width,
                 uint64_t seed)
{
    uint64_t i = 0;
    for (int n = 0; n < t->p.count; n++)
        for (int c = 0; c < channels; c++)
            for (int h = 0; h < height; h++)
                for (int w = 0; w < width; w++)
                    values[blocked_at(t, channels, height, width, n, c, h, w)] =
                        (float)test_uniform(seed, i++);
}

static void open_tensors(struct tensors *t, const struct problem *p, int lanes)
{
    *t = (struct tensors){.p = *p,
                          .lanes = lanes,
                          .out_height = (p->height + p->stride - 1) / p->stride,
                          .out_width = (p->width + p->stride - 1) / p->stride};
    size_t weights = (size_t)p->in * p->out * 9;
    t->x = floats(blocked_count(t, p->in, p->height, p->width));
    t->dx = floats(blocked_count(t, p->in, p->height, p->width));
    t->y = floats(blocked_count(t, p->out, t->out_height, t->out_width));
    t->dy = floats(blocked_count(t, p->out, t->out_height, t->out_width));
    t->weights = floats(weights);
    t->gradient = floats(weights);
    t->bias = floats((size_t)p->out + lanes);
    fill(t, t->x, p->in, p->height, p->width, 1);
    fill(t, t->dy, p->out, t->out_height, t->out_width, 2);
    for (size_t i = 0; i < weights; i++)
        t->weights[i] = (float)test_uniform(3, i);
    for (int i = 0; i < p->out; i++)
        t->bias[i] = (float)test_uniform(4, i);
}

static void close_tensors(struct tensors *t)
{
    float *all[] = {t->x, t->y, t->dx, t->dy, t->weights, t->gradient, t->bias};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

// ---- the three directions in double

// Adds every product a sum of one of the three directions is made of: y[n, o, oh, ow] of
// x[n, i, h, w] and weight k.
static void over_products(const struct tensors *t,
                          void (*product)(const struct tensors *t, double *sums, size_t x, size_t y,
                                          size_t weight),
                          double *sums)
{
    const struct problem *p = &t->p;
    for (int n = 0; n < p->count; n++)
        for (int o = 0; o < p->out; o++)
            for (int i = 0; i < p->in; i++)
                for (int place = 0; place < t->out_height * t->out_width * 9; place++) {
                    int k = place % 9, oh = place / 9 / t->out_width, ow = place / 9 % t->out_width;
                    int h = oh * p->stride + k / 3 - 1, w = ow * p->stride + k % 3 - 1;
                    if (h >= 0 && h < p->height && w >= 0 && w < p->width)
                        product(t, sums, x_at(t, t->x, n, i, h, w) - t->x,
                                y_at(t, t->y, n, o, oh, ow) - t->y,
                                ((size_t)o * p->in + i) * 9 + k);
                }
}

static void forward_product(const struct tensors *t, double *sums, size_t x, size_t y,
                            size_t weight)
{
    sums[y] += (double)t->x[x] * (double)t->weights[weight];
}

static void data_product(const struct tensors *t, double *sums, size_t x, size_t y, size_t weight)
{
    sums[x] += (double)t->dy[y] * (double)t->weights[weight];
}

static void weights_product(const struct tensors *t, double *sums, size_t x, size_t y,
                            size_t weight)
{
    sums[weight] += (double)t->x[x] * (double)t->dy[y];
}

static void check(const char *what, const struct kernel_set *set, const struct problem *p,
                  const float *ours, const double *expected, size_t count)
{
    double *wide = calloc(count, sizeof(*wide));
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)ours[i];
    double apart = test_difference(wide, expected, count);
    if (!(apart <= LIMIT))
        fail_msg("%s, %s, %d to %d channels, %d x %d, stride %d: %.3g apart", set->name, what,
                 p->in, p->out, p->height, p->width, p->stride, apart);
    free(wide);
}

// ---- the kernels

static void run_winograd(const struct winograd_kernels *k, struct tensors *t, bool relu)
{
    const struct problem *p = &t->p;
    struct winograd w = {p->in, p->out, p->height, p->width};
    struct winograd turned = {p->out, p->in, p->height, p->width};
    float *arranged = floats(k->weight_count(&w)), *back = floats(k->weight_count(&turned));
    float *scratch[] = {floats(k->scratch_bytes(&w, p->threads, false) / sizeof(float)),
                        floats(k->scratch_bytes(&turned, p->threads, false) / sizeof(float)),
                        floats(k->scratch_bytes(&w, p->threads, true) / sizeof(float))};
    k->transform_weights(&w, t->weights, false, arranged);
    k->forward(&w, p->threads, p->count, t->x, arranged, relu ? t->bias : NULL, relu, t->y,
               scratch[0]);
    k->transform_weights(&turned, t->weights, true, back);
    k->forward(&turned, p->threads, p->count, t->dy, back, NULL, false, t->dx, scratch[1]);
    k->backward_weights(&w, p->threads, p->count, t->x, t->dy, t->gradient, scratch[2]);
    for (int i = 0; i < 3; i++)
        free(scratch[i]);
    free(arranged);
    free(back);
}

static void run_strided(const struct strided_kernels *k, struct tensors *t, bool relu)
{
    const struct problem *p = &t->p;
    struct strided s = {p->in, p->out, p->height, p->width, t->out_height, t->out_width};
    float *arranged = floats(k->weight_count(&s)), *turned = floats(k->weight_count(&s));
    float *scratch = floats(k->scratch_bytes(&s, p->threads) / sizeof(float));
    k->arrange_weights(&s, t->weights, false, arranged);
    k->forward(&s, p->threads, p->count, t->x, arranged, relu ? t->bias : NULL, relu, t->y);
    k->arrange_weights(&s, t->weights, true, turned);
    k->backward_data(&s, p->threads, p->count, t->dy, turned, t->dx);
    k->backward_weights(&s, p->threads, p->count, t->x, t->dy, t->gradient, scratch);
    free(arranged);
    free(turned);
    free(scratch);
}

static void add_bias_and_clip(const struct tensors *t, double *y)
{
    for (int n = 0; n < t->p.count; n++)
        for (int c = 0; c < t->p.out; c++)
            for (int i = 0; i < t->out_height * t->out_width; i++) {
                double *at = y + (y_at(t, t->y, n, c, i / t->out_width, i % t->out_width) - t->y);
                *at = fmax(0.0, *at + (double)t->bias[c]);
            }
}

static void check_problem(const struct kernel_set *set, const struct problem *p, bool relu)
{
    struct tensors t;
    open_tensors(&t, p, set->lanes);
    size_t x_count = blocked_count(&t, p->in, p->height, p->width);
    size_t y_count = blocked_count(&t, p->out, t.out_height, t.out_width);
    size_t weight_count = (size_t)p->in * p->out * 9;
    double *x = calloc(x_count, sizeof(*x)), *y = calloc(y_count, sizeof(*y)),
           *weights = calloc(weight_count, sizeof(*weights));
    assert_true(x != NULL && y != NULL && weights != NULL);
    if (p->stride == 1)
        run_winograd(set->winograd, &t, relu);
    else
        run_strided(set->strided, &t, relu);
    over_products(&t, forward_product, y);
    over_products(&t, data_product, x);
    over_products(&t, weights_product, weights);
    if (relu)
        add_bias_and_clip(&t, y);
    check("forward", set, p, t.y, y, y_count); // padded channels are zeros in both
    check("data gradient", set, p, t.dx, x, x_count);
    check("weights' gradient", set, p, t.gradient, weights, weight_count);
    free(x);
    free(y);
    free(weights);
    close_tensors(&t);
}

static void every_kernel_is_right(void **state)
{
    (void)state;
    struct kernel_set sets[2];
    int count = find_sets(sets);
    if (count == 0)
        skip();
    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); j++)
            for (int relu = 0; relu < 2; relu++)
                check_problem(&sets[i], &PROBLEMS[j], relu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
