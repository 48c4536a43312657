#pragma once
// One parameter's update, shared by host and device, in the arena's own type.
//
// SGD with momentum as PyTorch's: g += wd w; m = mu m + g (m = g at the first step, which a zero m
// gives as well); w -= lr (nesterov ? g + mu m : m)           [Sutskever et al. 2013]
// AdamW [Loshchilov & Hutter 2019]: w *= 1 - lr wd; m, v moving averages; w -= lr m^ / (sqrt(v^) +
// eps). It takes the gains 1 - beta, rounded from double: 1 - 0.999f is off by 1e-5 of itself.
//
// EMA: e = w + d (e - w); its decay at update t (from 0) is min(decay, (1 + t) / (10 + t)).
// fmaf/fma is written out: compilers must not choose (-ffp-contract=off, nvcc's -fmad=false).

#include <math.h>

#include "base/random.h" // HOST_DEVICE

// Of running statistics, towards a micro-batch's.
#define OPTIMIZER_RUNNING_MOMENTUM 0.1

#define OPTIMIZER_FUNCTIONS(real, suffix, FMA, SQRT)                                               \
    HOST_DEVICE static inline real sgd_step_##suffix(real w, real g, real *m, real lr, real mu,    \
                                                     real wd, int nesterov)                        \
    {                                                                                              \
        g = FMA(wd, w, g);                                                                         \
        *m = FMA(mu, *m, g);                                                                       \
        return FMA(-lr, nesterov ? FMA(mu, *m, g) : *m, w);                                        \
    }                                                                                              \
    HOST_DEVICE static inline real adamw_step_##suffix(real w, real g, real *m, real *v, real lr,  \
                                                       real gain1, real gain2, real wd,            \
                                                       real bias1, real bias2, real epsilon)       \
    {                                                                                              \
        w = FMA(-lr * wd, w, w);                                                                   \
        *m = FMA(gain1, g - *m, *m);                                                               \
        *v = FMA(gain2, g * g - *v, *v);                                                           \
        return FMA(-lr, (*m / bias1) / (SQRT(*v / bias2) + epsilon), w);                           \
    }                                                                                              \
    HOST_DEVICE static inline real ema_step_##suffix(real e, real w, real decay)                   \
    {                                                                                              \
        return FMA(decay, e - w, w);                                                               \
    }                                                                                              \
    /* running = (1 - momentum) running + momentum batch */                                        \
    HOST_DEVICE static inline real running_step_##suffix(real running, real batch, real momentum)  \
    {                                                                                              \
        return FMA(momentum, batch - running, running);                                            \
    }

OPTIMIZER_FUNCTIONS(float, f32, fmaf, sqrtf)
OPTIMIZER_FUNCTIONS(double, f64, fma, sqrt)

static inline double ema_decay_at(double decay, double update)
{
    double warm = (1.0 + update) / (10.0 + update);
    return warm < decay ? warm : decay;
}
