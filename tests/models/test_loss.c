#include <math.h>
#include <string.h>

#include "base/arith/half.h"
#include "tests/models/support.h"

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-13 * (1.0 + fabs(expected))))
        fail_msg("%.17g is not %.17g", value, expected);
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

// softmax(1, 2, 3) = 0.0900, 0.2447, 0.6652
static void cross_entropy_is_the_hand_computed_one(void **state)
{
    (void)state;
    struct bench b;
    const double logits[3] = {1, 2, 3};
    bench_open_identity(&b, 3, 1);
    const double *g = row_step(&b, 3, logits, 0);
    near(b.sums[LOSS_TOTAL], 2.40760596444438);
    near(b.sums[LOSS_CE], 2.40760596444438);
    near(b.sums[LOSS_KD], 0.0);
    near(g[0], 0.09003057317038046 - 1.0);
    near(g[1], 0.24472847105479764);
    near(g[2], 0.6652409557748218);

    b.loss.label_smoothing = 0.1;
    row_step(&b, 3, logits, 0);
    near(b.sums[LOSS_CE], 2.3076059644443805);
    near(g[0], -0.8433027601629529);
    near(g[2], 0.6319076224414885);
    bench_close(&b);
}

// Teacher (2, 0, -1), T = 2, a = 0.3: KL = 0.51845…, T² KL = 2.07381…
static void distillation_is_the_hand_computed_one(void **state)
{
    (void)state;
    struct bench b;
    const double logits[3] = {1, 2, 3};
    const uint16_t teacher[3] = {half(2), half(0), half(-1)};
    bench_open_identity(&b, 3, 1);
    b.teacher = teacher;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 2.0, .alpha = 0.3};
    const double *g = row_step(&b, 3, logits, 0);
    near(b.sums[LOSS_KD], 2.0738163287413798);
    near(b.sums[LOSS_CE], 2.40760596444438);
    near(b.sums[LOSS_TOTAL], 2.30746907373348);
    near(g[0], -0.9023033963722826);
    near(g[1], 0.21689312259616794);
    near(g[2], 0.6854102737761145);

    b.loss.reduction = REDUCTION_ELEMENTWISE; // KL, and its part of the gradient, divided by 3
    row_step(&b, 3, logits, 0);
    near(b.sums[LOSS_KD], 2.0738163287413798 / 3.0);
    near(b.sums[LOSS_TOTAL], 1.892705807985204);
    near(g[0], -0.7254201979779167);
    near(g[2], 0.5389158706202883);

    b.loss.kind = DISTILL_NONE; // the teacher is not asked
    row_step(&b, 3, logits, 0);
    near(b.sums[LOSS_TOTAL], 2.40760596444438);
    assert_true(b.sums[LOSS_KD] == 0.0);
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
    bench_open_identity(&b, 6, 1);
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
    bench_open_identity(&b, 3, 1);
    b.teacher = teacher;
    b.loss = (struct loss_spec){.kind = DISTILL_KD, .temperature = 1.0, .alpha = 0.5};
    const double *g = row_step(&b, 3, logits, 2);
    near(b.sums[LOSS_CE], 1e4);
    near(b.sums[LOSS_KD], 2e4);
    near(b.sums[LOSS_TOTAL], 1.5e4);
    near(g[0], 1.0);
    near(g[1], -0.5);
    near(g[2], -0.5);
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
    bench_open_identity(&b, 3, 2);
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
    near(b.gradients[9],
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
    bench_open_identity(&b, 6, 1);
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

    bench_open_identity(&b, 3, 1); // with 3 classes every label is among the best 5, but not NaN's
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
    bench_open_identity(&b, 3, 3);
    bench_pictures(&b, logits, 3);
    assert_int_equal(network_forward(b.network, b.input, FORWARD_EVAL), 0);
    b.labels[0] = 0;
    b.labels[1] = 0;
    struct loss_targets targets = {.labels = b.labels, .sample_id = b.ids, .count = 2};
    assert_int_equal(network_loss(b.network, &targets, &b.loss, &b.scalars, b.sums), 0);
    near(b.sums[LOSS_CE], 2.40760596444438 + 0.4076059644443803);
    assert_true(b.sums[LOSS_TOP1] == 1.0);
    assert_true(b.sums[LOSS_TOP5] == 2.0);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy_is_the_hand_computed_one),
        cmocka_unit_test(distillation_is_the_hand_computed_one),
        cmocka_unit_test(alpha_goes_from_labels_to_teacher),
        cmocka_unit_test(huge_logits_are_harmless),
        cmocka_unit_test(rows_are_looked_up_by_sample_id),
        cmocka_unit_test(ties_go_to_the_lowest_class),
        cmocka_unit_test(padded_rows_count_nothing),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
