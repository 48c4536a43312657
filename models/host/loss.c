#include "base/arith/loss.h"

#include <math.h>

#include "base/arith/half.h"
#include "base/error.h"
#include "models/host/host.h"

enum { TOP = 5 };

// One row of reals, whichever type holds them; computed with in double.
struct row {
    const void *values;
    enum { ROW_F16, ROW_F32, ROW_F64 } type;
};

static double row_get(struct row row, int c)
{
    switch (row.type) {
    case ROW_F16:
        return half_to_double(((const uint16_t *)row.values)[c]);
    case ROW_F32:
        return (double)((const float *)row.values)[c];
    case ROW_F64:
        break;
    }
    return ((const double *)row.values)[c];
}

static struct loss_softmax softmax_of(struct row row, int classes, double scale)
{
    struct loss_softmax s = {.scale = scale, .max = -HUGE_VAL};
    for (int c = 0; c < classes; c++) {
        double v = row_get(row, c) * scale;
        if (v > s.max)
            s.max = v;
    }
    double sum = 0.0;
    for (int c = 0; c < classes; c++)
        sum += exp(row_get(row, c) * scale - s.max);
    s.lse = log(sum);
    return s;
}

struct row_loss {
    const struct loss_weights *weights;
    struct row logits, teacher; // teacher.values NULL: cross-entropy alone
    int label, classes;
    void *gradient; // [classes] of the engine's type, or NULL
    bool wide;      // gradient is f64
    double gradient_scale;
};

static void gradient_put(const struct row_loss *r, int c, double value)
{
    if (r->wide)
        ((double *)r->gradient)[c] = value * r->gradient_scale;
    else
        ((float *)r->gradient)[c] = (float)(value * r->gradient_scale);
}

// sums += the row's losses; gradient = its scaled gradient.
static void row_losses(const struct row_loss *r, double *sums)
{
    const struct loss_weights *w = r->weights;
    bool distilled = r->teacher.values != NULL;
    struct loss_softmax hard = softmax_of(r->logits, r->classes, 1.0), soft = hard, taught = hard;
    if (distilled) {
        soft = softmax_of(r->logits, r->classes, w->softness);
        taught = softmax_of(r->teacher, r->classes, w->softness);
    }
    double ce = 0.0, kl = 0.0;
    for (int c = 0; c < r->classes; c++) {
        double z = row_get(r->logits, c);
        double log_p = loss_log_softmax(hard, z);
        double target = loss_target(c, r->label, r->classes, w->smoothing);
        double soft_p = 0.0, soft_q = 0.0;
        if (target != 0.0) // not 0 * -infinity
            ce -= target * log_p;
        if (distilled) {
            double log_soft_p = loss_log_softmax(soft, z);
            double log_soft_q = loss_log_softmax(taught, row_get(r->teacher, c));
            soft_q = exp(log_soft_q);
            kl += loss_kl_term(soft_q, log_soft_q, log_soft_p);
            if (r->gradient != NULL)
                soft_p = exp(log_soft_p);
        }
        if (r->gradient != NULL)
            gradient_put(r, c, loss_gradient(w, exp(log_p), target, soft_p, soft_q));
    }
    double kd = w->kd_unit * kl;
    sums[LOSS_TOTAL] += distilled ? w->ce * ce + w->kd * kd : ce;
    sums[LOSS_CE] += ce;
    sums[LOSS_KD] += kd;
}

static void row_ranks(const struct row_loss *r, double *sums)
{
    double mine = row_get(r->logits, r->label);
    int before = 0;
    for (int c = 0; c < r->classes; c++)
        before += loss_beats(c, row_get(r->logits, c), r->label, mine);
    if (isnan(mine))
        return;
    sums[LOSS_TOP1] += before < 1 ? 1.0 : 0.0;
    sums[LOSS_TOP5] += before < TOP ? 1.0 : 0.0;
}

int host_network_loss(struct network *base, const struct loss_targets *targets,
                      const struct loss_spec *spec, const struct step_scalars *scalars,
                      double *sums)
{
    struct host_network *n = host_network_of(base);
    int classes = n->graph->classes;
    bool wide = n->engine->real == REAL_F64, training = n->mode == FORWARD_TRAIN;
    bool distilled = spec->kind == DISTILL_KD && targets->teacher != NULL;
    CHECK(targets->count == n->count || (!training && targets->count < n->count));
    struct loss_weights weights =
        loss_weights_make(distilled, spec->reduction == REDUCTION_ELEMENTWISE, spec->temperature,
                          spec->alpha, spec->label_smoothing, classes);
    struct row_loss row = {.weights = &weights,
                           .logits.type = wide ? ROW_F64 : ROW_F32,
                           .teacher.type = ROW_F16,
                           .classes = classes,
                           .wide = wide,
                           .gradient_scale = scalars->inverse_batch};
    size_t row_bytes = (size_t)classes * real_bytes(n->engine->real);
    for (int i = 0; i < targets->count; i++) {
        int64_t id = targets->sample_id[i];
        row.label = targets->labels[id];
        if (row.label < 0 || row.label >= classes)
            return FAIL(RETORT_INPUT, "sample %lld has label %d, and %s has %d classes",
                        (long long)id, row.label, n->graph->arch, classes);
        row.logits.values = (const char *)n->logits + (size_t)i * row_bytes;
        row.teacher.values = distilled ? targets->teacher + (size_t)id * classes : NULL;
        row.gradient = training ? (char *)n->logit_gradients + (size_t)i * row_bytes : NULL;
        row_losses(&row, sums);
        row_ranks(&row, sums);
    }
    n->has_loss = training;
    return RETORT_OK;
}
