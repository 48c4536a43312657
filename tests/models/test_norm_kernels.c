// BatchNorm's kernels against sums in double, for every shape of plane.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/cpu/norm_kernels.h"
#include "tests/models/support.h"

static const double EPSILON = 1e-5;

struct problem {
    int count, planes, lanes, pixels;
    bool relu;
    double mean, deviation; // of x
};
static const struct problem PROBLEMS[] = {
    {3, 2, 8, 289, true, 0.3, 1.0},    {2, 3, 16, 64, false, -1.0, 2.0},
    {5, 1, 48, 700, true, 0.0, 1.0},   {4, 1, 24, 9, true, 0.5, 0.1},
    {7, 5, 1, 1, false, 0.0, 1.0},     {2, 3, 1, 300, true, 0.0, 1.0},
    {5, 2, 8, 1024, true, 100.0, 0.1}, {1, 1, 16, 1, true, 0.0, 1.0},
};

// One problem's tensors, and what double arithmetic makes of them.
struct tensors {
    struct problem p;
    int channels;
    size_t elements;
    float *x, *y, *dy, *dx, *vectors;
    double *sums; // [2, channels]
    struct norm_work w;
};

static void *zeros(size_t count, size_t bytes)
{
    void *p = host_calloc(count * bytes);
    assert_non_null(p);
    return p;
}

static int channel_of(const struct tensors *t, size_t i)
{
    size_t plane = i / ((size_t)t->p.pixels * t->p.lanes);
    return (int)(plane % t->p.planes) * t->p.lanes + (int)(i % t->p.lanes);
}

static void open_tensors(struct tensors *t, const struct problem *p, int threads)
{
    *t = (struct tensors){.p = *p, .channels = p->planes * p->lanes};
    t->elements = (size_t)p->count * t->channels * p->pixels;
    float **all[] = {&t->x, &t->y, &t->dy, &t->dx};
    for (int i = 0; i < 4; i++)
        *all[i] = zeros(t->elements, sizeof(float));
    t->vectors = zeros(5 * (size_t)t->channels, sizeof(float));
    t->sums = zeros(2 * (size_t)t->channels, sizeof(double));
    for (size_t i = 0; i < t->elements; i++) {
        t->x[i] = (float)(p->mean + p->deviation * sqrt(3.0) * test_uniform(1, i) +
                          p->deviation * 0.1 * channel_of(t, i));
        t->dy[i] = (float)(test_uniform(2, i) + 0.2);
    }
    float *v = t->vectors;
    t->w = (struct norm_work){.threads = threads,
                              .count = p->count,
                              .planes = p->planes,
                              .lanes = p->lanes,
                              .pixels = (size_t)p->pixels,
                              .relu = p->relu,
                              .x = t->x,
                              .mean = v,
                              .factor = v + t->channels,
                              .shift = v + 2 * t->channels,
                              .base = v + 3 * t->channels,
                              .slope = v + 4 * t->channels};
    t->w.partials = zeros(norm_partials(&t->w), sizeof(double));
}

static void close_tensors(struct tensors *t)
{
    free(t->x);
    free(t->y);
    free(t->dy);
    free(t->dx);
    free(t->vectors);
    free(t->sums);
    free(t->w.partials);
}

static void check(const struct tensors *t, const char *what, double found, double expected,
                  double scale)
{
    if (!(fabs(found - expected) <= 1e-5 * (fabs(expected) + scale)))
        fail_msg("%d × %d × %d lanes × %d pixels: %s is %.9g, not %.9g", t->p.count, t->p.planes,
                 t->p.lanes, t->p.pixels, what, found, expected);
}

// ---- sums of one channel in double

struct expected {
    double mean, variance;
    double dz, product; // sums of dz, and of dz (x - mean)
};

static double values_of(const struct tensors *t)
{
    return (double)t->p.count * t->p.pixels;
}

static struct expected channel_statistics(const struct tensors *t, int c)
{
    struct expected e = {0};
    for (size_t i = 0; i < t->elements; i++)
        e.mean += channel_of(t, i) == c ? (double)t->x[i] / values_of(t) : 0.0;
    for (size_t i = 0; i < t->elements; i++)
        e.variance += channel_of(t, i) == c ? pow((double)t->x[i] - e.mean, 2) / values_of(t) : 0.0;
    return e;
}

// Of element i, by the vectors the kernels read.
static double output(const struct tensors *t, size_t i)
{
    int c = channel_of(t, i);
    double y =
        (double)t->w.factor[c] * ((double)t->x[i] - (double)t->w.mean[c]) + (double)t->w.shift[c];
    return t->p.relu && y < 0.0 ? 0.0 : y;
}

// Where y is close to 0 rounding decides.
static bool is_edge(const struct tensors *t, size_t i)
{
    int c = channel_of(t, i);
    return t->p.relu && fabs((double)t->w.factor[c] * ((double)t->x[i] - (double)t->w.mean[c]) +
                             (double)t->w.shift[c]) < 1e-5;
}

// dy of edges is 0, so that it does not matter what becomes of them.
static void clear_edges(struct tensors *t)
{
    for (size_t i = 0; i < t->elements; i++)
        if (is_edge(t, i))
            t->dy[i] = 0.0F;
}

static double let_through(const struct tensors *t, size_t i)
{
    return t->p.relu && output(t, i) <= 0.0 ? 0.0 : (double)t->dy[i];
}

static void channel_gradients(const struct tensors *t, int c, struct expected *e)
{
    for (size_t i = 0; i < t->elements; i++)
        if (channel_of(t, i) == c) {
            e->dz += let_through(t, i);
            e->product += let_through(t, i) * ((double)t->x[i] - (double)t->w.mean[c]);
        }
}

// ---- the tests

static void check_forward(struct tensors *t)
{
    float *mean = t->vectors, *factor = mean + t->channels, *shift = factor + t->channels;
    norm_moments(&t->w, t->channels, t->sums, t->sums + t->channels);
    for (int c = 0; c < t->channels; c++) {
        struct expected e = channel_statistics(t, c);
        double m = t->sums[c] / values_of(t);
        double variance = t->sums[t->channels + c] / values_of(t) - m * m;
        check(t, "a mean", m, e.mean, 1e-5);
        check(t, "a variance", variance, e.variance, 1e-8);
        mean[c] = (float)m;
        factor[c] = (float)((0.5 + 0.1 * c) / sqrt(e.variance + EPSILON));
        shift[c] = 0.2F - 0.01F * (float)c;
    }
    norm_apply(&t->w, t->y);
    for (size_t i = 0; i < t->elements; i++)
        check(t, "an output", (double)t->y[i], output(t, i), 1.0);
}

static void check_backward(struct tensors *t)
{
    float *base = t->vectors + 3 * (size_t)t->channels, *slope = base + t->channels;
    clear_edges(t);
    norm_gradient_sums(&t->w, t->dy, t->channels, t->sums, t->sums + t->channels);
    for (int c = 0; c < t->channels; c++) {
        struct expected e = {0};
        channel_gradients(t, c, &e);
        check(t, "a sum of gradients", t->sums[c], e.dz, values_of(t) * 1e-2);
        check(t, "a sum of products", t->sums[t->channels + c], e.product,
              values_of(t) * t->p.deviation * 1e-2);
        base[c] = 0.1F + 0.01F * (float)c;
        slope[c] = 0.3F - 0.02F * (float)c;
    }
    norm_gradient(&t->w, t->dy, t->dx);
    for (size_t i = 0; i < t->elements; i++) {
        int c = channel_of(t, i);
        double distance = (double)t->x[i] - (double)t->w.mean[c];
        double dx = (double)t->w.factor[c] *
                    (let_through(t, i) - (double)base[c] - (double)slope[c] * distance);
        check(t, "a gradient", (double)t->dx[i], dx, fabs((double)t->w.factor[c]));
    }
}

static void every_shape_is_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); i++) {
        struct tensors t;
        open_tensors(&t, &PROBLEMS[i], 1);
        check_forward(&t);
        check_backward(&t);
        close_tensors(&t);
    }
}

static void assert_same(const float *a, const float *b, size_t count)
{
    assert_memory_equal(a, b, count * sizeof(float));
}

// Several threads, and output that takes the place of input, change no bit.
static void threads_and_places_change_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); i++) {
        struct tensors one, three;
        open_tensors(&one, &PROBLEMS[i], 1);
        open_tensors(&three, &PROBLEMS[i], 3);
        check_forward(&one);
        check_backward(&one);
        check_forward(&three);
        check_backward(&three);
        assert_memory_equal(one.sums, three.sums, 2 * (size_t)one.channels * sizeof(double));
        assert_same(one.y, three.y, one.elements);
        assert_same(one.dx, three.dx, one.elements);
        norm_gradient(&three.w, three.dy, three.dy);
        assert_same(one.dx, three.dy, one.elements);
        norm_apply(&three.w, three.x);
        assert_same(one.y, three.x, one.elements);
        close_tensors(&one);
        close_tensors(&three);
    }
}

static void what_is_not_finite_shows(void **state)
{
    (void)state;
    struct tensors t;
    open_tensors(&t, &PROBLEMS[0], 1);
    check_forward(&t);
    t.x[100] = NAN;
    norm_apply(&t.w, t.y);
    assert_true(isnan(t.y[100]));
    norm_moments(&t.w, t.channels, t.sums, t.sums + t.channels);
    assert_true(isnan(t.sums[channel_of(&t, 100)]));
    close_tensors(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_right),
        cmocka_unit_test(threads_and_places_change_nothing),
        cmocka_unit_test(what_is_not_finite_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
