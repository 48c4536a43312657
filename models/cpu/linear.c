// Fully connected layers as matrix products straight on the arenas: [out, in] is what they read.

#include "base/error.h"
#include "models/cpu/network.h"
#include "models/cpu/pointwise.h"
#include "models/host/clones.h"

static const float *input_rows(const struct cpu_network *n, const struct layer *l)
{
    return l->x != NULL ? l->x : n->pictures;
}

// y[row, column] += bias[column], then ReLU when asked.
HOST_CLONES static void add_bias(float *y, const float *bias, int rows, int columns, bool relu)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            float v = y[(size_t)r * columns + c] + bias[c];
            y[(size_t)r * columns + c] = relu && !(v > 0.0F) ? 0.0F : v;
        }
}

HOST_CLONES static void sum_rows(const float *dy, float *sums, int rows, int columns)
{
    for (int c = 0; c < columns; c++)
        sums[c] = 0.0F;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            sums[c] += dy[(size_t)r * columns + c];
}

static int linear_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    int rows = n->host.count, in = (int)shape_elements(&l->in), out = l->out.channels;
    const float *weights = cpu_weights(n, l->node->weight);
    int rc =
        dnn_gemm(false, true, rows, out, in, input_rows(n, l), in, weights, in, 0.0F, l->y, out);
    add_bias(l->y, cpu_weights(n, l->node->bias), rows, out, l->relu);
    return rc;
}

static int linear_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                           float *gradients)
{
    (void)k;
    int rows = n->host.count, in = (int)shape_elements(&l->in), out = l->out.channels;
    const struct param *weight = cpu_param(n, l->node->weight);
    int rc = RETORT_OK;
    if (l->relu)
        relu_backward(n, l);
    TRY(dnn_gemm(true, false, out, in, rows, l->dy, out, input_rows(n, l), in, 0.0F,
                 gradients + weight->offset, in));
    sum_rows(l->dy, gradients + cpu_param(n, l->node->bias)->offset, rows, out);
    if (l->dx != NULL)
        TRY(dnn_gemm(false, false, rows, in, out, l->dy, out, cpu_weights(n, l->node->weight), in,
                     0.0F, l->dx, in));
fail:
    return rc;
}

const struct layer_ops LINEAR_LAYER = {.forward = linear_forward, .backward = linear_backward};
