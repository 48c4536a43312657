// BatchNorm, with what is fused behind it, as a layer, alone or synchronised over a group.

#include "models/cuda/kernels/norm.h"

#include "models/cuda/network.h"

static struct norm_layer norm_of(const struct cuda_network *n, const struct cuda_layer *l)
{
    return (struct norm_layer){.columns = cuda_columns(n, l),
                               .state = l->norm,
                               .samples = n->count,
                               .area = l->in.height * l->in.width,
                               .gamma = cuda_weights(n, l->node->weight),
                               .beta = cuda_weights(n, l->node->bias),
                               .relu = l->relu,
                               .pool = cuda_pool(n, l)};
}

// Where a group has brought its totals already, the state is the whole batch's.
static bool totals_are_here(const struct cuda_network *n, const struct cuda_layer *l)
{
    return n->grouped && l->node->synced;
}

int cuda_norm_moments(struct cuda_network *n, struct cuda_layer *l)
{
    const struct norm_layer norm = {.columns = cuda_columns(n, l)};
    int rc = RETORT_OK;
    TRY_CUDA(norm_moments_launch(&norm, cuda_layer_input(n, l), n->partials, n->engine->type,
                                 n->engine->stream));
fail:
    return rc;
}

int cuda_norm_gradient_moments(struct cuda_network *n, struct cuda_layer *l)
{
    const struct norm_layer norm = {
        .columns = cuda_columns(n, l), .state = l->norm, .relu = l->relu, .pool = cuda_pool(n, l)};
    int rc = RETORT_OK;
    TRY_CUDA(norm_gradient_moments_launch(&norm, cuda_layer_input(n, l), l->dy, n->partials,
                                          n->engine->type, n->engine->stream));
fail:
    return rc;
}

// The sums of forward: the product before has left them, or they are taken now. *x is what their
// pivots are read from.
static int find_moments(struct cuda_network *n, struct cuda_layer *l, const void **x)
{
    bool left = l > n->layers && cuda_product_sums(n, &l[-1], CUDA_FORWARD);
    *x = left ? NULL : cuda_layer_input(n, l);
    return left ? RETORT_OK : cuda_norm_moments(n, l);
}

// The sums of backward, likewise: *left says whether the product behind has left them.
static int find_gradient_moments(struct cuda_network *n, struct cuda_layer *l, bool *left)
{
    *left = cuda_product_sums(n, &l[1], CUDA_BACKWARD);
    return *left ? RETORT_OK : cuda_norm_gradient_moments(n, l);
}

// The state that forward normalises by.
static int settle_statistics(struct cuda_network *n, struct cuda_layer *l,
                             const struct norm_layer *norm)
{
    const struct cuda_engine *e = n->engine;
    const void *x;
    int rc = RETORT_OK;
    if (n->mode == FORWARD_EVAL) {
        TRY_CUDA(norm_running_launch(norm, cuda_weights(n, l->node->mean),
                                     cuda_weights(n, l->node->variance), e->stream));
    } else if (!totals_are_here(n, l)) {
        TRY(find_moments(n, l, &x));
        TRY_CUDA(norm_statistics_launch(norm, x, n->partials, e->type, e->stream));
    }
fail:
    return rc;
}

static int norm_forward(struct cuda_network *n, struct cuda_layer *l)
{
    struct norm_layer norm = norm_of(n, l);
    int rc = RETORT_OK;
    TRY(settle_statistics(n, l, &norm));
    TRY_CUDA(
        norm_apply_launch(&norm, cuda_layer_input(n, l), l->y, n->engine->type, n->engine->stream));
fail:
    return rc;
}

// What cuda_norm_sums has kept, to where it belongs.
static int put_parameters(const struct cuda_network *n, const struct cuda_layer *l,
                          float *gradients)
{
    const size_t channels = (size_t)l->out.channels, bytes = channels * sizeof(float);
    int rc = RETORT_OK;
    TRY_CUDA(cudaMemcpyAsync(cuda_gradients(n, gradients, l->node->weight), n->gamma_beta, bytes,
                             cudaMemcpyDeviceToDevice, n->engine->stream));
    TRY_CUDA(cudaMemcpyAsync(cuda_gradients(n, gradients, l->node->bias), n->gamma_beta + channels,
                             bytes, cudaMemcpyDeviceToDevice, n->engine->stream));
fail:
    return rc;
}

static int norm_backward(struct cuda_network *n, struct cuda_layer *l, float *gradients)
{
    struct norm_layer norm = norm_of(n, l);
    const struct cuda_engine *e = n->engine;
    const void *x = cuda_layer_input(n, l);
    bool left;
    int rc = RETORT_OK;
    if (totals_are_here(n, l)) {
        TRY(put_parameters(n, l, gradients));
    } else {
        TRY(find_gradient_moments(n, l, &left));
        TRY_CUDA(norm_gradient_statistics_launch(
            &norm, n->partials, left, cuda_gradients(n, gradients, l->node->weight),
            cuda_gradients(n, gradients, l->node->bias), e->stream));
    }
    if (l->dx != NULL)
        TRY_CUDA(norm_gradient_launch(&norm, x, l->dy, l->dx, e->type, e->stream));
fail:
    return rc;
}

const struct cuda_layer_ops CUDA_NORM_LAYER = {norm_forward, norm_backward, true};

int cuda_norm_sums(struct cuda_network *n, struct cuda_layer *l, enum cuda_pass pass, size_t *count)
{
    struct norm_layer norm = norm_of(n, l);
    const struct cuda_engine *e = n->engine;
    const void *x = cuda_layer_input(n, l);
    size_t channels = (size_t)l->out.channels;
    bool left;
    int rc = RETORT_OK;
    if (pass == CUDA_FORWARD) {
        *count = 2 * channels + 1;
        TRY(find_moments(n, l, &x));
        TRY_CUDA(norm_sums_launch(&norm, x, n->partials, n->base.sums, e->type, e->stream));
    } else {
        *count = 2 * channels;
        TRY(find_gradient_moments(n, l, &left));
        TRY_CUDA(norm_gradient_sums_launch(&norm, n->partials, left, n->base.sums, n->gamma_beta,
                                           n->gamma_beta + channels, e->stream));
    }
fail:
    return rc;
}

int cuda_norm_totals(struct cuda_network *n, struct cuda_layer *l, enum cuda_pass pass,
                     const double *totals)
{
    struct norm_layer norm = norm_of(n, l);
    int rc = RETORT_OK;
    if (pass == CUDA_FORWARD)
        TRY_CUDA(norm_totals_launch(&norm, totals, n->engine->stream));
    else
        TRY_CUDA(norm_gradient_totals_launch(&norm, totals, n->engine->stream));
fail:
    return rc;
}

int cuda_norm_report(struct cuda_network *n, struct cuda_layer *l,
                     const struct step_scalars *scalars, float *gradients)
{
    struct norm_layer norm = norm_of(n, l);
    int rc = RETORT_OK;
    TRY_CUDA(norm_report_launch(&norm, scalars, cuda_gradients(n, gradients, l->node->mean),
                                cuda_gradients(n, gradients, l->node->variance),
                                n->engine->stream));
fail:
    return rc;
}
