#include "models/cuda/kernels/loss_scale.h"

#include "models/cuda/launch.cuh"

namespace
{

// Far from both ends of f32, whatever the gradients do.
const float LEAST = 1.0f / 18446744073709551616.0f, MOST = 18446744073709551616.0f; // 2^64

__global__ void __launch_bounds__(1) scale_kernel(loss_scale *s)
{
    if (s->not_finite) {
        s->skipped++;
        s->scale = s->scale > LEAST ? s->scale * 0.5f : s->scale;
        s->good_steps = 0;
    } else if (++s->good_steps >= s->growth_steps) {
        s->scale = s->scale < MOST ? s->scale * 2.0f : s->scale;
        s->good_steps = 0;
    }
    s->not_finite = 0;
}

} // namespace

cudaError_t loss_scale_launch(struct loss_scale *scale, cudaStream_t stream)
{
    return kernel_launch(launch_shape{dim3(1), dim3(1), 0, stream}, scale_kernel, scale);
}
