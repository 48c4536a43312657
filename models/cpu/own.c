#include "models/cpu/own.h"

// The widest instruction set oneDNN may use decides the size of a block, and the block decides
// which of ours fit.
static bool find_kernels(int block, const struct winograd_kernels **winograd,
                         const struct strided_kernels **strided)
{
#ifdef __x86_64__
    if (!__builtin_cpu_supports("fma"))
        return false;
    *winograd = block == 16 ? &WINOGRAD_AVX512 : &WINOGRAD_AVX2;
    *strided = block == 16 ? &STRIDED_AVX512 : &STRIDED_AVX2;
    return block == 16 ? __builtin_cpu_supports("avx512f") : __builtin_cpu_supports("avx2");
#else
    (void)block, (void)winograd, (void)strided;
    return false;
#endif
}

void own_describe(struct own_conv *o, const struct dnn_conv *shape, int in, int out, int block)
{
    const struct winograd_kernels *winograd;
    const struct strided_kernels *strided;
    *o = (struct own_conv){
        .winograd = {{in, out, shape->out_height, shape->out_width},
                     {out, in, shape->out_height, shape->out_width}},
        .strided = {in, out, shape->in_height, shape->in_width, shape->out_height,
                    shape->out_width},
    };
    if (shape->kernel != 3 || shape->padding != 1 || shape->plain_input ||
        !find_kernels(block, &winograd, &strided))
        return;
    if (shape->stride == 1)
        o->winograd_kernels = winograd;
    if (shape->stride == 2 && shape->out_height == (shape->in_height + 1) / 2 &&
        shape->out_width == (shape->in_width + 1) / 2)
        o->strided_kernels = strided;
}

bool own_available(const struct own_conv *o)
{
    return o->winograd_kernels != NULL || o->strided_kernels != NULL;
}

size_t own_weight_count(const struct own_conv *o)
{
    if (o->strided_kernels != NULL)
        return o->strided_kernels->weight_count(&o->strided);
    size_t forward = o->winograd_kernels->weight_count(&o->winograd[0]);
    size_t turned = o->winograd_kernels->weight_count(&o->winograd[1]);
    return forward > turned ? forward : turned;
}

size_t own_scratch_bytes(const struct own_conv *o, int threads, enum dnn_direction direction)
{
    bool for_weights = direction == DNN_BACKWARD_WEIGHTS;
    if (o->strided_kernels != NULL)
        return for_weights ? o->strided_kernels->scratch_bytes(&o->strided, threads) : 0;
    return o->winograd_kernels->scratch_bytes(&o->winograd[direction == DNN_BACKWARD_DATA], threads,
                                              for_weights);
}

void own_set_weights(const struct own_conv *o, const float *plain, bool turned, float *to)
{
    if (o->strided_kernels != NULL)
        o->strided_kernels->arrange_weights(&o->strided, plain, turned, to);
    else
        o->winograd_kernels->transform_weights(&o->winograd[turned], plain, turned, to);
}

void own_forward(const struct own_conv *o, int threads, int count, const float *x,
                 const float *weights, const float *bias, bool relu, float *y, void *scratch)
{
    if (o->strided_kernels != NULL)
        o->strided_kernels->forward(&o->strided, threads, count, x, weights, bias, relu, y);
    else
        o->winograd_kernels->forward(&o->winograd[0], threads, count, x, weights, bias, relu, y,
                                     scratch);
}

void own_backward_data(const struct own_conv *o, int threads, int count, const float *dy,
                       const float *turned, float *dx, void *scratch)
{
    if (o->strided_kernels != NULL)
        o->strided_kernels->backward_data(&o->strided, threads, count, dy, turned, dx);
    else
        o->winograd_kernels->forward(&o->winograd[1], threads, count, dy, turned, NULL, false, dx,
                                     scratch);
}

void own_backward_weights(const struct own_conv *o, int threads, int count, const float *x,
                          const float *dy, float *gradient, void *scratch)
{
    if (o->strided_kernels != NULL)
        o->strided_kernels->backward_weights(&o->strided, threads, count, x, dy, gradient, scratch);
    else
        o->winograd_kernels->backward_weights(&o->winograd[0], threads, count, x, dy, gradient,
                                              scratch);
}
