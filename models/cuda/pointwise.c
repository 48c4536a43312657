// Layers without statistics: products with bias and activation, ReLU alone, average pooling.

#include "models/cuda/kernels/bias.h"
#include "models/cuda/kernels/pool.h"
#include "models/cuda/network.h"

// ---- products

static int product_forward(struct cuda_network *n, struct cuda_layer *l)
{
    struct columns c = cuda_columns(n, l);
    const float *bias = cuda_weights(n, l->node->bias);
    cudaStream_t stream = n->engine->stream;
    int rc = RETORT_OK;
    TRY(cuda_product_run(n, l,
                         cuda_product_sums(n, l, CUDA_FORWARD) ? TO_OUTPUT_WITH_SUMS : TO_OUTPUT));
    if (l->last)
        TRY_CUDA(logits_launch(&c, l->y, bias, n->logits, stream));
    else if (bias != NULL || l->relu)
        TRY_CUDA(bias_launch(&c, l->y, bias, l->relu, l->y, n->engine->type, stream));
fail:
    return rc;
}

static int product_backward(struct cuda_network *n, struct cuda_layer *l, float *gradients)
{
    struct columns c = cuda_columns(n, l);
    const struct product *p = l->product;
    cudaStream_t stream = n->engine->stream;
    int rc = RETORT_OK;
    if (l->node->bias >= 0 || l->relu)
        TRY_CUDA(
            bias_gradient_launch(&c, l->y, l->relu, l->dy, n->partials, n->engine->type, stream));
    if (l->node->bias >= 0)
        TRY_CUDA(bias_gradient_total_launch(&c, n->partials,
                                            cuda_gradients(n, gradients, l->node->bias), stream));
    TRY(cuda_product_run(n, l, TO_WEIGHTS));
    TRY_CUDA(
        unpack_launch(gradients, n->first->weight_gradient, &p->filter, p->gradient_type, stream));
    if (l->dx != NULL) // last: the sums that it leaves stay for the layer before
        TRY(cuda_product_run(
            n, l, cuda_product_sums(n, l, CUDA_BACKWARD) ? TO_INPUT_WITH_SUMS : TO_INPUT));
fail:
    return rc;
}

const struct cuda_layer_ops CUDA_PRODUCT_LAYER = {product_forward, product_backward, false};

// ---- ReLU

static int relu_forward(struct cuda_network *n, struct cuda_layer *l)
{
    struct columns c = cuda_columns(n, l);
    int rc = RETORT_OK;
    TRY_CUDA(bias_launch(&c, cuda_layer_input(n, l), NULL, true, l->y, n->engine->type,
                         n->engine->stream));
fail:
    return rc;
}

static int relu_backward(struct cuda_network *n, struct cuda_layer *l, float *gradients)
{
    struct columns c = cuda_columns(n, l);
    int rc = RETORT_OK;
    (void)gradients;
    TRY_CUDA(bias_gradient_launch(&c, l->y, true, l->dy, n->partials, n->engine->type,
                                  n->engine->stream));
fail:
    return rc;
}

const struct cuda_layer_ops CUDA_RELU_LAYER = {relu_forward, relu_backward, true};

// ---- pooling

static int pool_forward(struct cuda_network *n, struct cuda_layer *l)
{
    struct pool p = cuda_pool(n, l);
    int rc = RETORT_OK;
    TRY_CUDA(pool_launch(&p, cuda_layer_input(n, l), l->y, n->engine->type, n->engine->stream));
fail:
    return rc;
}

static int pool_backward(struct cuda_network *n, struct cuda_layer *l, float *gradients)
{
    struct pool p = cuda_pool(n, l);
    int rc = RETORT_OK;
    (void)gradients;
    if (l->dx != NULL)
        TRY_CUDA(pool_gradient_launch(&p, l->dy, l->dx, n->engine->type, n->engine->stream));
fail:
    return rc;
}

const struct cuda_layer_ops CUDA_POOL_LAYER = {pool_forward, pool_backward, false};
