#include "models/cuda/kernels/update.h"

#include "base/arith/optimizer.h"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

// What of an optimizer's specification the arithmetic takes, rounded as the host engines round it.
struct constants {
    float mu, wd, gain1, gain2, epsilon, running;
    bool adamw, nesterov;
};

struct pointers {
    float *weights;
    const float *gradients;
    float *moment1, *moment2, *ema;
    uint64_t begin;          // the moments' and the EMA's element 0
    const loss_scale *scale; // NULL: gradients are what they are
};

__device__ float parameter_step(const pointers &a, const constants &c, const step_scalars &s,
                                float wd, float unscale, uint64_t at)
{
    uint64_t own = at - a.begin;
    float w = a.weights[at], g = a.gradients[at] * unscale, m = a.moment1[own], lr = (float)s.lr;
    if (c.adamw) {
        float v = a.moment2[own];
        w = adamw_step_f32(w, g, &m, &v, lr, c.gain1, c.gain2, wd, (float)s.bias1, (float)s.bias2,
                           c.epsilon);
        a.moment2[own] = v;
    } else {
        w = sgd_step_f32(w, g, &m, lr, c.mu, wd, c.nesterov);
    }
    a.moment1[own] = m;
    return w;
}

__global__ void __launch_bounds__(THREADS)
    update_kernel(const update_piece *pieces, pointers a, constants c, const step_scalars *scalars)
{
    const update_piece piece = pieces[blockIdx.x];
    const step_scalars s = *scalars;
    float wd = piece.treatment == UPDATE_DECAYED ? c.wd : 0.0f, decay = (float)s.ema_decay;
    float unscale = a.scale != nullptr ? 1.0f / a.scale->scale : 1.0f; // exact: a power of two
    if (a.scale != nullptr && a.scale->not_finite)
        return;
    for (uint32_t i = threadIdx.x; i < piece.count; i += THREADS) {
        uint64_t at = piece.begin + i;
        float w = piece.treatment == UPDATE_RUNNING
                      ? running_step_f32(a.weights[at], a.gradients[at], c.running)
                      : parameter_step(a, c, s, wd, unscale, at);
        a.weights[at] = w;
        if (a.ema != nullptr)
            a.ema[at - a.begin] = ema_step_f32(a.ema[at - a.begin], w, decay);
    }
}

} // namespace

cudaError_t update_launch(const struct update_piece *pieces, size_t count,
                          const struct arenas *arenas, const struct optimizer_spec *spec,
                          const struct step_scalars *scalars, cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    constants c = {(float)spec->momentum,         (float)spec->weight_decay,
                   (float)(1.0 - spec->beta1),    (float)(1.0 - spec->beta2),
                   (float)spec->epsilon,          (float)OPTIMIZER_RUNNING_MOMENTUM,
                   spec->kind == OPTIMIZER_ADAMW, spec->nesterov};
    pointers a = {static_cast<float *>(arenas->weights),
                  static_cast<const float *>(arenas->gradients),
                  static_cast<float *>(arenas->moment1),
                  static_cast<float *>(arenas->moment2),
                  static_cast<float *>(arenas->ema),
                  arenas->begin,
                  arenas->scale};
    return kernel_launch(launch_shape{dim3((unsigned)count), dim3(THREADS), 0, stream},
                         update_kernel, pieces, a, c, scalars);
}
