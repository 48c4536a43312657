#pragma once
// Cross-entropy and distillation on one row of logits, shared by host and device.
//
//   L = (1 - a) CE(y, softmax(z)) + a T² KL(softmax(t / T) || softmax(z / T))      [Hinton et al. 2015]
//   CE with label smoothing e: targets (1 - e) onehot + e / C                   [Szegedy et al. 2016]
//   dL/dz = (1 - a) (p - target) + a T (p_T - q_T)
//
// KL is summed over classes; the caller averages rows over the global batch. The `elementwise`
// reduction divides KL by the number of classes as well (PyTorch's KLDivLoss default), as the
// student report did. Log-sum-exps are taken against the row's largest value, so logits of ±1e4 are
// harmless.

#include <math.h>

#include "base/random.h" // HOST_DEVICE


// Log-softmax of value v in a row whose largest value is `max` and log-sum-exp `lse`.
HOST_DEVICE static inline double loss_log_softmax(double v, double max, double lse)
{
    return (v - max) - lse;
}

// Target of class c under label smoothing e with `classes` classes and true class `label`.
HOST_DEVICE static inline double loss_target(int c, int label, int classes, double smoothing)
{
    double t = smoothing / classes;
    return c == label ? t + (1.0 - smoothing) : t;
}

// Term of class c in KL(q || p): q (log q - log p); 0 where q underflows.
HOST_DEVICE static inline double loss_kl_term(double log_q, double log_p)
{
    double q = exp(log_q);
    return q > 0.0 ? q * (log_q - log_p) : 0.0;
}
