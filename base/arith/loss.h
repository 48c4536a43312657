#pragma once
// Cross-entropy and distillation on one row of logits, shared by host and device.
//
//   L = (1 - a) CE(y, softmax(z)) + a T² KL(softmax(t / T) || softmax(z / T))      [Hinton et al.
//   2015] CE with label smoothing e: targets (1 - e) onehot + e / C                   [Szegedy et
//   al. 2016] dL/dz = (1 - a) (p - target) + a T (p_T - q_T)
//
// KL is summed over classes; the caller averages rows over the global batch. The `elementwise`
// reduction divides KL by the number of classes as well (PyTorch's KLDivLoss default), as the
// student report did. Log-sum-exps are taken against the row's largest value, so logits of ±1e4 are
// harmless.

#include <math.h>

#include "base/random.h" // HOST_DEVICE

// What multiplies each part of the loss and of its gradient.
struct loss_weights {
    double ce;          // 1 - a
    double kd;          // a
    double kd_unit;     // T² (/ C): makes a row's KL the KD that is reported
    double kd_gradient; // a T (/ C)
    double softness;    // 1 / T
    double smoothing;   // e
};

// distilled = 0: cross-entropy alone.
HOST_DEVICE static inline struct loss_weights loss_weights_make(int distilled, int elementwise,
                                                                double temperature, double alpha,
                                                                double smoothing, int classes)
{
    double share = elementwise ? 1.0 / classes : 1.0;
    double a = distilled ? alpha : 0.0;
    struct loss_weights w = {
        1.0 - a,           a,         temperature * temperature * share, a * temperature * share,
        1.0 / temperature, smoothing,
    };
    return w;
}

// A row's softmax: of value v, exp(v scale - max) / exp(lse).
struct loss_softmax {
    double scale; // 1, or 1 / T
    double max;   // the largest v scale
    double lse;   // log of the sum of exp(v scale - max): at least 0
};

HOST_DEVICE static inline double loss_log_softmax(struct loss_softmax s, double v)
{
    return (v * s.scale - s.max) - s.lse;
}

// Target of class c under label smoothing e with `classes` classes and true class `label`.
HOST_DEVICE static inline double loss_target(int c, int label, int classes, double smoothing)
{
    double t = smoothing / classes;
    return c == label ? t + (1.0 - smoothing) : t;
}

// Term of class c in KL(q || p): q (log q - log p); 0 where q underflows.
HOST_DEVICE static inline double loss_kl_term(double q, double log_q, double log_p)
{
    return q > 0.0 ? q * (log_q - log_p) : 0.0;
}

// d L / d z of one class: p of the logits, soft_p and soft_q at temperature T of student and
// teacher.
HOST_DEVICE static inline double loss_gradient(const struct loss_weights *w, double p,
                                               double target, double soft_p, double soft_q)
{
    return w->ce * (p - target) + w->kd_gradient * (soft_p - soft_q);
}

// Whether class c with logit v ranks before class `label` with logit `mine`: ties go to the lowest
// class, and what cannot be compared (NaN) counts against the label.
HOST_DEVICE static inline int loss_beats(int c, double v, int label, double mine)
{
    return c != label && !(v < mine || (v == mine && c > label));
}
