#include "models/cpu/own.h"

void own_describe(struct own_conv *o, const struct dnn_conv *shape, int in, int out, int block)
{
    *o = (struct own_conv){
        .winograd = {{in, out, shape->out_height, shape->out_width},
                     {out, in, shape->out_height, shape->out_width}},
        .strided = {in, out, shape->in_height, shape->in_width, shape->out_height,
                    shape->out_width},
    };
    if (shape->kernel != 3 || shape->padding != 1 || shape->plain_input || block != WINOGRAD_LANES)
        return;
    if (shape->stride == 1 && winograd_available(&o->winograd[0]))
        o->kind = OWN_WINOGRAD;
    if (shape->stride == 2 && strided_available(&o->strided))
        o->kind = OWN_STRIDED;
}

bool own_available(const struct own_conv *o)
{
    return o->kind != OWN_NONE;
}

size_t own_weight_count(const struct own_conv *o)
{
    if (o->kind == OWN_STRIDED)
        return strided_weight_count(&o->strided);
    size_t forward = winograd_weight_count(&o->winograd[0]);
    size_t turned = winograd_weight_count(&o->winograd[1]);
    return forward > turned ? forward : turned;
}

size_t own_scratch_bytes(const struct own_conv *o, int threads, enum dnn_direction direction)
{
    bool for_weights = direction == DNN_BACKWARD_WEIGHTS;
    if (o->kind == OWN_STRIDED)
        return for_weights ? strided_scratch_bytes(&o->strided, threads) : 0;
    return winograd_scratch_bytes(&o->winograd[direction == DNN_BACKWARD_DATA], threads,
                                  for_weights);
}

void own_set_weights(const struct own_conv *o, const float *plain, bool weights, bool turned)
{
    bool strided = o->kind == OWN_STRIDED;
    if (weights && strided)
        strided_arrange_weights(&o->strided, plain, false, o->weights);
    else if (weights)
        winograd_transform_weights(&o->winograd[0], plain, false, o->weights);
    if (turned && strided)
        strided_arrange_weights(&o->strided, plain, true, o->turned);
    else if (turned)
        winograd_transform_weights(&o->winograd[1], plain, true, o->turned);
}

void own_forward(const struct own_conv *o, int threads, int count, const float *x,
                 const float *bias, bool relu, float *y, void *scratch)
{
    if (o->kind == OWN_STRIDED)
        strided_forward(&o->strided, threads, count, x, o->weights, bias, relu, y);
    else
        winograd_forward(&o->winograd[0], threads, count, x, o->weights, bias, relu, y, scratch);
}

void own_backward_data(const struct own_conv *o, int threads, int count, const float *dy, float *dx,
                       void *scratch)
{
    if (o->kind == OWN_STRIDED)
        strided_backward_data(&o->strided, threads, count, dy, o->turned, dx);
    else
        winograd_forward(&o->winograd[1], threads, count, dy, o->turned, NULL, false, dx, scratch);
}

void own_backward_weights(const struct own_conv *o, int threads, int count, const float *x,
                          const float *dy, float *gradient, void *scratch)
{
    if (o->kind == OWN_STRIDED)
        strided_backward_weights(&o->strided, threads, count, x, dy, gradient, scratch);
    else
        winograd_backward_weights(&o->winograd[0], threads, count, x, dy, gradient, scratch);
}
