// The loss and its gradient on every engine, against numbers worked out by hand.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arith/half.h"
#include "tests/models/support.h"

static const char *device; // all tests run on one engine after the other

// Losses are sums in double on every engine, of logits that f32 holds.
static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-13 * (1.0 + fabs(expected))))
        fail_msg("%s: %.17g is not %.17g", device, value, expected);
}

// Gradients are rounded to the engine's reals.
static void near_gradient(double value, double expected)
{
    double limit = strcmp(device, "reference") == 0 ? 1e-13 : 1e-7;
    if (!(fabs(value - expected) <= limit * (1.0 + fabs(expected))))
        fail_msg("%s: %.17g is not %.17g", device, value, expected);
}

static uint16_t half(double v)
{
    int fits = 1;
    uint16_t h = half_from_double(v, &fits);
    assert_true(fits);
    return h;
}

// One row of `classes` logits with class `label`, by a training step: sums in b->sums, and
// d loss / d logits, which is what the bias of the identity layer gets.
static const double *row_step(struct bench *b, int classes, const double *logits, int label)
{
    bench_pictures(b, logits, 1);
    b->labels[0] = label;
    bench_step(b);
    return b->gradients + (size_t)classes * classes;
}

// z = (1, 2, 3): e + e^2 + e^3 = 30.192875, its logarithm l = 3.407606, so
//   p = (2.718282, 7.389056, 20.085537) / 30.192875 = (0.090031, 0.244728, 0.665241)
//   CE of class 0 = l - 1 = 2.407606, of class 1 = l - 2, of class 2 = l - 3; gradient p - onehot
static const double Z[3] = {1, 2, 3}, L = 3.4076059644443803;
static const double P[3] = {0.09003057317038046, 0.24472847105479764, 0.6652409557748218};

static void cross_entropy_is_the_hand_computed_one(void **state)
{
    (void)state;
    struct bench b;
    bench_open_identity(&b, device, 3, 1);
    for (int label = 0; label < 3; label++) {
        const double *g = row_step(&b, 3, Z, label);
        near(b.sums[LOSS_TOTAL], L - Z[label]);
        near(b.sums[LOSS_CE], L - Z[label]);
        near(b.sums[LOSS_KD], 0.0);
        for (int c = 0; c < 3; c++)
            near_gradient(g[c], P[c] - (c == label));
    }
    bench_close(&b);
}

// Smoothing 0.1 over 3 classes, class 0: targets q = (0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3)
//   CE = l - (q0 1 + q1 2 + q2 3) = l - (0.933333 + 0.066667 + 0.1) = l - 1.1
//   gradient p - q = (0.090031 - 0.933333, 0.244728 - 0.033333, 0.665241 - 0.033333)
static void label_smoothing_is_the_hand_computed_one(void **state)
{
    (void)state;
    struct bench b;
    bench_open_identity(&b, device, 3, 1);
    b.loss.label_smoothing = 0.1;
    const double *g = row_step(&b, 3, Z, 0);
    near(b.sums[LOSS_TOTAL], L - 1.1);
    near(b.sums[LOSS_CE], L - 1.1);
    near_gradient(g[0], P[0] - 0.9 - 0.1 / 3.0);
    near_gradient(g[1], P[1] - 0.1 / 3.0);
    near_gradient(g[2], P[2] - 0.1 / 3.0);
    bench_close(&b);
}

// Teacher t = (2, 0, -1), T = 2, class 0:
//   z / T = (0.5, 1, 1.5): logarithm of the sum of exponentials 2.180270
//     p_T = (0.186324, 0.307196, 0.506480)
//   t / T = (1, 0, -0.5): logarithm 1.464369
//     q_T = (0.628532, 0.231224, 0.140244)
//   KL = sum q_T (log q_T - log p_T)
//      = 0.628532 (-0.464369 + 1.680270) + 0.231224 (-1.464369 + 1.180270)
//        + 0.140244 (-1.964369 + 0.680270) = 0.764232 - 0.065690 - 0.180088 = 0.518454
//   KD = T^2 KL = 2.073816; gradient a T (p_T - q_T) = 0.6 (-0.442208, 0.075972, 0.366236)
static const double KD = 2.0738163287413798;
static const double APART[3] = {-0.44220799598591487, 0.07597198809634934, 0.36623600788956556};

// a = 0.3: L = 0.7 CE + 0.3 KD, where label smoothing is in CE alone and `elementwise` divides KD
// and its gradient by the 3 classes.
static void distillation_is_the_hand_computed_one(void **state)
{
    (void)state;
    struct bench b;
    const uint16_t teacher[3] = {half(2), half(0), half(-1)};
    bench_open_identity(&b, device, 3, 1);
    b.teacher = teacher;
    for (int elementwise = 0; elementwise < 2; elementwise++)
        for (int smooth = 0; smooth < 2; smooth++) {
            double share = elementwise ? 1.0 / 3.0 : 1.0, ce = smooth ? L - 1.1 : L - 1.0;
            b.loss = (struct loss_spec){.kind = DISTILL_KD,
                                        .reduction =
                                            elementwise ? REDUCTION_ELEMENTWISE : REDUCTION_BATCH,
                                        .temperature = 2.0,
                                        .alpha = 0.3,
                                        .label_smoothing = smooth ? 0.1 : 0.0};
            const double *g = row_step(&b, 3, Z, 0);
            near(b.sums[LOSS_CE], ce);
            near(b.sums[LOSS_KD], KD * share);
            near(b.sums[LOSS_TOTAL], 0.7 * ce + 0.3 * KD * share);
            for (int c = 0; c < 3; c++) {
                double target =
                    (c == 0 ? 1.0 - b.loss.label_smoothing : 0.0) + b.loss.label_smoothing / 3.0;
                near_gradient(g[c], 0.7 * (P[c] - target) + 0.3 * 2.0 * APART[c] * share);
            }
        }
    b.loss = (struct loss_spec){.kind = DISTILL_NONE, .temperature = 2.0, .alpha = 0.3};
    row_step(&b, 3, Z, 0); // the teacher is not asked
    near(b.sums[LOSS_TOTAL], L - 1.0);
    assert_true(b.sums[LOSS_KD] == 0.0);
    bench_close(&b);
}

// The same teacher and student at other temperatures. T = 1: p as above, q = (0.843795, 0.114195,
// 0.042010), KL = sum q (log q - log p) = KD_1. Scaling z and t by k and T by k leaves both
// softmaxes alone: KD grows by k^2 (T^2), its gradient by k (T).
static void temperature_scales_as_it_should(void **state)
{
    (void)state;
    struct bench b;
    const double tripled[3] = {3, 6, 9};
    const uint16_t teacher[3] = {half(2), half(0), half(-1)};
    const uint16_t teacher3[3] = {half(6), half(0), half(-3)};
    bench_open_identity(&b, device, 3, 1);
    b.teacher = teacher;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 1.0, .alpha = 1.0};
    row_step(&b, 3, Z, 0);
    near(b.sums[LOSS_KD], 1.6851240160639809);
    b.teacher = teacher3;
    b.loss.temperature = 6.0; // three times 2
    const double *g = row_step(&b, 3, tripled, 0);
    near(b.sums[LOSS_KD], 9.0 * KD);
    near(b.sums[LOSS_TOTAL], 9.0 * KD);
    for (int c = 0; c < 3; c++)
        near_gradient(g[c], 6.0 * APART[c]);
    bench_close(&b);
}

static void alpha_goes_from_labels_to_teacher(void **state)
{
    (void)state;
    struct bench b;
    const double logits[6] = {0.5, -1.25, 3.0, 2.0, -0.75, 0.125};
    uint16_t same[6], other[6];
    double plain[6];
    for (int c = 0; c < 6; c++) {
        same[c] = half(logits[c]);
        other[c] = half(logits[5 - c]);
    }
    bench_open_identity(&b, device, 6, 1);
    const double *g = row_step(&b, 6, logits, 3);
    double ce = b.sums[LOSS_TOTAL];
    memcpy(plain, g, sizeof(plain));

    b.teacher = other;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 3.0, .alpha = 0.0};
    row_step(&b, 6, logits, 3);
    assert_true(b.sums[LOSS_TOTAL] == ce);
    assert_true(b.sums[LOSS_KD] > 0.1);
    assert_memory_equal(g, plain, sizeof(plain));

    b.loss.alpha = 1.0;
    row_step(&b, 6, logits, 3);
    assert_true(fabs(g[0]) > 0.01);
    b.teacher = same;
    row_step(&b, 6, logits, 3);
    for (int c = 0; c < 6; c++)
        assert_true(g[c] == 0.0);
    assert_true(b.sums[LOSS_TOTAL] == 0.0);
    assert_true(b.sums[LOSS_CE] == ce);
    bench_close(&b);
}

// A student 2e4 below its teacher's choice: every exponential but one underflows.
static void huge_logits_are_harmless(void **state)
{
    (void)state;
    struct bench b;
    const double logits[3] = {1e4, -1e4, 0};
    const uint16_t teacher[3] = {half(-1e4), half(1e4), half(0)};
    bench_open_identity(&b, device, 3, 1);
    b.teacher = teacher;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 1.0, .alpha = 0.5};
    const double *g = row_step(&b, 3, logits, 2);
    near(b.sums[LOSS_CE], 1e4);
    near(b.sums[LOSS_KD], 2e4);
    near(b.sums[LOSS_TOTAL], 1.5e4);
    near_gradient(g[0], 1.0);
    near_gradient(g[1], -0.5);
    near_gradient(g[2], -0.5);
    b.loss.temperature = 3.0;
    row_step(&b, 3, logits, 2);
    near(b.sums[LOSS_KD], 9.0 * 2e4 / 3.0);
    bench_close(&b);
}

// Rows add up, scaled by the global batch, and each row is looked up by its sample id.
static void rows_are_looked_up_by_sample_id(void **state)
{
    (void)state;
    struct bench b;
    const double logits[6] = {1, 2, 3, 3, 2, 1};
    const int32_t labels[8] = {-1, -1, 2, -1, -1, -1, -1, 0};
    uint16_t teacher[8 * 3] = {0};
    teacher[7 * 3] = half(2);
    teacher[7 * 3 + 2] = half(-1);
    bench_open_identity(&b, device, 3, 2);
    bench_pictures(&b, logits, 2);
    memcpy(b.labels, labels, sizeof(labels));
    b.ids[0] = 7;
    b.ids[1] = 2;
    b.teacher = teacher;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 2.0, .alpha = 0.3};
    b.scalars.inverse_batch = 1.0 / 16.0;
    double loss = bench_step(&b);
    near(b.sums[LOSS_CE], 2 * 2.40760596444438);
    near(loss, b.sums[LOSS_TOTAL] / 16.0);
    // Row 1's teacher is flat: its gradient is known from its softmaxes.
    double soft = 0.506480391055654, hard = 0.6652409557748218;
    near_gradient(b.gradients[9],
                  (-0.9023033963722826 + 0.7 * hard + 0.3 * 2.0 * (soft - 1.0 / 3.0)) / 16.0);
    bench_close(&b);
}

static void accuracy(struct bench *b, const double *logits, int label, double top1, double top5)
{
    bench_pictures(b, logits, 1);
    b->labels[0] = label;
    bench_loss(b, FORWARD_EVAL);
    if (b->sums[LOSS_TOP1] != top1 || b->sums[LOSS_TOP5] != top5)
        fail_msg("class %d: top-1 %g, top-5 %g", label, b->sums[LOSS_TOP1], b->sums[LOSS_TOP5]);
}

static void ties_go_to_the_lowest_class(void **state)
{
    (void)state;
    struct bench b;
    const double flat[6] = {0}, ladder[6] = {5, 4, 3, 2, 1, 0}, pair[6] = {0, 7, 0, 7, 0, 0};
    const double hopeless[6] = {nan(""), 0, 0, 0, 0, 0}; // 0 × NaN is NaN: every class gets it
    bench_open_identity(&b, device, 6, 1);
    accuracy(&b, flat, 0, 1, 1);
    accuracy(&b, flat, 1, 0, 1);
    accuracy(&b, flat, 4, 0, 1);
    accuracy(&b, flat, 5, 0, 0);
    accuracy(&b, ladder, 0, 1, 1);
    accuracy(&b, ladder, 4, 0, 1);
    accuracy(&b, ladder, 5, 0, 0);
    accuracy(&b, pair, 1, 1, 1);
    accuracy(&b, pair, 3, 0, 1);
    accuracy(&b, pair, 0, 0, 1);
    accuracy(&b, hopeless, 0, 0, 0);
    b.weights[36 + 5] = nan(""); // class 5's bias: one NaN ranks before all others
    accuracy(&b, ladder, 0, 0, 1);
    accuracy(&b, ladder, 4, 0, 0);
    accuracy(&b, ladder, 5, 0, 0);
    bench_close(&b);

    bench_open_identity(&b, device, 3,
                        1); // with 3 classes every label is among the best 5, but not NaN's
    accuracy(&b, flat, 2, 0, 1);
    accuracy(&b, hopeless, 0, 0, 0);
    bench_close(&b);
}

// A block of the evaluation may end in padding, which counts nothing.
static void padded_rows_count_nothing(void **state)
{
    (void)state;
    struct bench b;
    const double logits[9] = {1, 2, 3, 3, 2, 1, 9, 9, 9};
    bench_open_identity(&b, device, 3, 3);
    bench_pictures(&b, logits, 3);
    b.labels[0] = 0;
    b.labels[1] = 0;
    bench_loss(&b, FORWARD_EVAL);
    memset(b.sums, 0, sizeof(b.sums));
    struct loss_targets targets = {.labels = b.labels, .sample_id = b.ids, .count = 2};
    assert_int_equal(network_loss(b.network, &targets, &b.loss, &b.scalars, b.sums), 0);
    near(b.sums[LOSS_CE], 2.40760596444438 + 0.4076059644443803);
    assert_true(b.sums[LOSS_TOP1] == 1.0);
    assert_true(b.sums[LOSS_TOP5] == 2.0);
    bench_close(&b);
}

int main(void)
{
    static const char *const DEVICES[] = {"reference", "cpu"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy_is_the_hand_computed_one),
        cmocka_unit_test(label_smoothing_is_the_hand_computed_one),
        cmocka_unit_test(distillation_is_the_hand_computed_one),
        cmocka_unit_test(temperature_scales_as_it_should),
        cmocka_unit_test(alpha_goes_from_labels_to_teacher),
        cmocka_unit_test(huge_logits_are_harmless),
        cmocka_unit_test(rows_are_looked_up_by_sample_id),
        cmocka_unit_test(ties_go_to_the_lowest_class),
        cmocka_unit_test(padded_rows_count_nothing),
    };
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        char name[32];
        device = DEVICES[i];
        snprintf(name, sizeof(name), "loss on %s", device);
        if (bench_has_device(device))
            failed += cmocka_run_group_tests_name(name, tests, NULL, NULL);
    }
    return failed;
}
