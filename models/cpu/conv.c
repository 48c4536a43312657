// Convolution, with bias and ReLU where the graph has them; on a narrow device fully connected
// layers too: a 1 × 1 convolution of one picture, whose pixels are the samples.

#include <string.h>

#include "base/error.h"
#include "models/cpu/network.h"
#include "models/cpu/pointwise.h"

enum {
    OP_FORWARD,
    OP_BACKWARD_DATA,
    OP_BACKWARD_WEIGHTS,
    OP_UNPACK
}; // the first three as dnn_direction

static bool has_bias(const struct layer *l)
{
    return l->node->has_bias || l->folded != NULL;
}

static struct dnn_conv conv_shape(const struct layer *l, int count)
{
    if (l->node->kind == NODE_LINEAR)
        return (struct dnn_conv){.count = 1,
                                 .in = l->in.padded,
                                 .out = l->out.padded,
                                 .in_height = 1,
                                 .in_width = count,
                                 .out_height = 1,
                                 .out_width = count,
                                 .kernel = 1,
                                 .stride = 1,
                                 .bias = true,
                                 .relu = l->relu,
                                 .wide_output = !l->out.narrow};
    return (struct dnn_conv){.count = count,
                             .in = l->in.padded,
                             .out = l->out.padded,
                             .in_height = l->in.height,
                             .in_width = l->in.width,
                             .out_height = l->out.height,
                             .out_width = l->out.width,
                             .kernel = l->node->kernel,
                             .stride = l->node->stride,
                             .padding = l->node->padding,
                             .plain_input = !l->in.blocked,
                             .bias = has_bias(l),
                             .relu = l->relu};
}

bool conv_has_direction(const struct cpu_network *n, const struct layer *l,
                        enum dnn_direction direction)
{
    if (direction == DNN_FORWARD)
        return true;
    return n->host.training && (direction == DNN_BACKWARD_WEIGHTS || l->dx != NULL);
}

// ---- weights

static size_t kernel_taps(const struct layer *l)
{
    return l->node->kind == NODE_LINEAR ? 1 : (size_t)l->node->kernel * l->node->kernel;
}

static size_t weight_elements(const struct layer *l)
{
    return (size_t)l->out.padded * l->in.padded * kernel_taps(l);
}

static bool is_own(const struct layer *l, enum dnn_direction direction)
{
    return l->conv->algorithm[direction] == CONV_OWN;
}

static bool weights_padded(const struct layer *l)
{
    return l->in.padded != l->in.channels || l->out.padded != l->out.channels;
}

// The arena's weights as [out, in, taps], or with both sides padded: where that, or a folded
// BatchNorm, makes a difference, a copy.
static float *plain_weights(struct cpu_network *n, const struct layer *l, bool padded)
{
    const float *weights = cpu_weights(n, l->node->weight);
    size_t taps = kernel_taps(l), row = l->in.channels * taps;
    size_t step = padded ? l->in.padded * taps : row;
    if (l->folded == NULL && !(padded && weights_padded(l)))
        return (float *)(uintptr_t)weights;
    float *copy = n->first->plain.data;
    memset(copy, 0, weight_elements(l) * sizeof(float));
    for (int o = 0; o < l->out.channels; o++) {
        double factor = 1.0, shift;
        if (l->folded != NULL)
            norm_fold(n, l->folded, o, &factor, &shift);
        for (size_t i = 0; i < row; i++)
            copy[o * step + i] = (float)(factor * (double)weights[o * row + i]);
    }
    return copy;
}

static void set_bias(const struct cpu_network *n, const struct layer *l)
{
    for (int o = 0; o < l->out.channels; o++) {
        double factor = 1.0, shift = 0.0;
        if (l->folded != NULL)
            norm_fold(n, l->folded, o, &factor, &shift);
        if (l->node->has_bias)
            shift += factor * (double)cpu_weights(n, l->node->bias)[o];
        l->conv->bias[o] = (float)shift;
    }
}

// Brings the arena's weights into every format in use from `first` on.
static int pack_weights(struct cpu_network *n, struct layer *l, int first)
{
    int rc = RETORT_OK;
    struct conv_state *c = l->conv;
    float *weights = first < c->pack_count ? plain_weights(n, l, true) : NULL;
    for (int i = first; i < c->pack_count; i++) {
        TRY(dnn_op_bind(&n->engine->dnn, &c->packs[i].pack, DNNL_ARG_FROM, weights));
        TRY(cpu_op_run(n, &c->packs[i].pack));
    }
fail:
    return rc;
}

// The packed weights in the format `op` wants, made when there are none yet.
static int packed_weights(struct cpu_network *n, struct layer *l, const struct dnn_op *op,
                          void **out)
{
    struct conv_state *c = l->conv;
    struct dnn_conv shape = conv_shape(l, 1);
    int rc = RETORT_OK;
    if (n->first->timing) { // any numbers will do
        TRY(cpu_scratch_reserve(n, &n->first->staging, dnn_op_bytes(op, DNNL_ARG_WEIGHTS)));
        *out = n->first->staging.data;
        return RETORT_OK;
    }
    for (int i = 0; i < c->pack_count; i++)
        if (dnn_op_same_format(&c->packs[i].pack, DNNL_ARG_TO, op, DNNL_ARG_WEIGHTS)) {
            *out = c->packs[i].data;
            return RETORT_OK;
        }
    TRY_ELSE(c->pack_count < CONV_PACKS, RETORT_FAILED,
             "oneDNN wants %s's weights in too many formats", l->node->name);
    struct packed *p = &c->packs[c->pack_count];
    TRY(dnn_pack_create(&p->pack, &n->engine->dnn, &shape, op, DNNL_ARG_WEIGHTS));
    TRY(cpu_op_adopt(n, &p->pack));
    TRY(cpu_network_alloc(n->first, dnn_op_bytes(op, DNNL_ARG_WEIGHTS), &p->data));
    TRY(dnn_op_bind(&n->engine->dnn, &p->pack, DNNL_ARG_TO, p->data));
    *out = p->data;
    c->pack_count++;
    if (n->first->arena != NULL) // a new batch size in the middle of training
        TRY(pack_weights(n, l, c->pack_count - 1));
fail:
    return rc;
}

// ---- operations

static int bind_forward(struct cpu_network *n, struct layer *l, struct dnn_op *op)
{
    struct dnn *d = &n->engine->dnn;
    void *weights;
    int rc = RETORT_OK;
    TRY(packed_weights(n, l, op, &weights));
    if (l->x != NULL)
        TRY(dnn_op_bind(d, op, DNNL_ARG_SRC, l->x));
    TRY(dnn_op_bind(d, op, DNNL_ARG_WEIGHTS, weights));
    if (has_bias(l))
        TRY(dnn_op_bind(d, op, DNNL_ARG_BIAS, l->conv->bias));
    TRY(dnn_op_bind(d, op, DNNL_ARG_DST, l->y));
fail:
    return rc;
}

static int bind_backward(struct cpu_network *n, struct layer *l, struct dnn_op *op,
                         enum dnn_direction direction)
{
    struct dnn *d = &n->engine->dnn;
    void *weights;
    int rc = RETORT_OK;
    TRY(dnn_op_bind(d, op, DNNL_ARG_DIFF_DST, l->dy));
    if (direction == DNN_BACKWARD_DATA) {
        TRY(packed_weights(n, l, op, &weights));
        TRY(dnn_op_bind(d, op, DNNL_ARG_WEIGHTS, weights));
        return dnn_op_bind(d, op, DNNL_ARG_DIFF_SRC, l->dx);
    }
    if (l->x != NULL)
        TRY(dnn_op_bind(d, op, DNNL_ARG_SRC, l->x));
    if (l->node->has_bias)
        TRY(dnn_op_bind(d, op, DNNL_ARG_DIFF_BIAS, l->conv->bias_gradient));
    TRY(cpu_scratch_reserve(n, &n->first->staging, dnn_op_bytes(op, DNNL_ARG_DIFF_WEIGHTS)));
fail:
    return rc;
}

// Workspace of our own kernels, and the weights they read where it is certain that they are used.
static int prepare_own(struct cpu_network *n, struct layer *l, enum dnn_direction direction)
{
    struct own_conv *own = &l->conv->own;
    size_t bytes = own_scratch_bytes(own, n->engine->host.threads, direction);
    size_t weight_bytes = own_weight_count(own) * sizeof(float);
    int rc = RETORT_OK;
    TRY(cpu_scratch_reserve(n, &n->first->scratchpad, bytes));
    if (direction == DNN_BACKWARD_WEIGHTS)
        TRY(cpu_scratch_reserve(n, &n->first->staging, weight_elements(l) * sizeof(float)));
    else if (n->first->timing) // any numbers will do
        TRY(cpu_scratch_reserve(n, &n->first->staging, weight_bytes));
    else if (own->weights[direction] == NULL)
        TRY(cpu_network_alloc(n->first, weight_bytes, &own->weights[direction]));
fail:
    return rc;
}

int conv_prepare(struct cpu_network *n, struct layer *l, struct dnn_op *op, int count,
                 enum dnn_direction direction, enum conv_algorithm algorithm, bool *available)
{
    struct dnn_conv shape = conv_shape(l, count);
    int rc = RETORT_OK;
    *available = own_available(&l->conv->own);
    if (algorithm == CONV_OWN)
        return *available ? prepare_own(n, l, direction) : RETORT_OK;
    TRY(dnn_conv_create(op, &n->engine->dnn, &shape, direction,
                        algorithm == CONV_WINO ? DNN_WINOGRAD : DNN_DIRECT, available));
    if (!*available)
        return RETORT_OK;
    TRY(direction == DNN_FORWARD ? bind_forward(n, l, op) : bind_backward(n, l, op, direction));
    TRY(cpu_op_adopt(n, op));
fail:
    return rc;
}

static void run_own(struct cpu_network *n, struct layer *l, int count, enum dnn_direction direction)
{
    const struct conv_state *c = l->conv;
    int threads = n->engine->host.threads;
    const float *weights = n->first->staging.data;
    if (direction != DNN_BACKWARD_WEIGHTS && !n->first->timing)
        weights = c->own.weights[direction];
    if (direction == DNN_FORWARD)
        own_forward(&c->own, threads, count, l->x, weights, c->bias, l->relu, l->y,
                    n->first->scratchpad.data);
    else if (direction == DNN_BACKWARD_DATA)
        own_backward_data(&c->own, threads, count, l->dy, weights, l->dx,
                          n->first->scratchpad.data);
    else {
        own_backward_weights(&c->own, threads, count, l->x, l->dy, n->first->staging.data,
                             n->first->scratchpad.data);
        if (l->node->has_bias)
            channel_sums(n, &l->out, count, l->dy, c->bias_gradient);
    }
}

int conv_run(struct cpu_network *n, struct layer *l, struct dnn_op *op, int count,
             enum dnn_direction direction, enum conv_algorithm algorithm)
{
    struct dnn *d = &n->engine->dnn;
    int rc = RETORT_OK;
    if (algorithm == CONV_OWN) {
        run_own(n, l, count, direction);
        return RETORT_OK;
    }
    if (l->x == NULL && direction != DNN_BACKWARD_DATA)
        TRY(dnn_op_bind(d, op, DNNL_ARG_SRC, (void *)(uintptr_t)n->pictures));
    if (direction == DNN_BACKWARD_WEIGHTS)
        TRY(dnn_op_bind(d, op, DNNL_ARG_DIFF_WEIGHTS, n->first->staging.data));
    TRY(cpu_op_run(n, op));
fail:
    return rc;
}

const char *conv_algorithm_name(enum conv_algorithm algorithm)
{
    static const char *const NAMES[CONV_ALGORITHMS] = {"direct", "wino", "own"};
    return NAMES[algorithm];
}

static int conv_build(struct cpu_network *n, struct layer *l, struct kernels *k, int count)
{
    struct dnn_conv shape = conv_shape(l, count);
    int rc = RETORT_OK;
    bool available;
    for (int i = 0; i < DNN_DIRECTIONS; i++) {
        if (!conv_has_direction(n, l, i))
            continue;
        TRY(conv_prepare(n, l, &k->op[i], count, i, l->conv->algorithm[i], &available));
        TRY_ELSE(
            available, RETORT_USAGE,
            "the engine plan asks for algorithm \"%s\" for %s, which this machine does not have "
            "for a batch of %d; start afresh without the plan",
            conv_algorithm_name(l->conv->algorithm[i]), l->node->name, count);
    }
    if (!conv_has_direction(n, l, DNN_BACKWARD_WEIGHTS) || is_own(l, DNN_BACKWARD_WEIGHTS))
        return RETORT_OK;
    TRY(dnn_unpack_create(&k->op[OP_UNPACK], &n->engine->dnn, &shape, &k->op[OP_BACKWARD_WEIGHTS],
                          DNNL_ARG_DIFF_WEIGHTS));
    TRY(cpu_op_adopt(n, &k->op[OP_UNPACK]));
fail:
    return rc;
}

// ---- the layer

static int conv_open(struct cpu_network *n, struct layer *l)
{
    size_t bytes = (size_t)l->out.padded * sizeof(float);
    struct dnn_conv shape = conv_shape(l, 1);
    int rc = RETORT_OK;
    if (n->first != n) {
        l->conv = n->first->layers[l - n->layers].conv;
        return RETORT_OK;
    }
    TRY(cpu_network_alloc(n, sizeof(*l->conv), &l->conv));
    if (has_bias(l)) {
        TRY(cpu_network_alloc(n, bytes, &l->conv->bias));
        TRY(cpu_network_alloc(n, bytes, &l->conv->bias_gradient));
    }
    if (weights_padded(l) || l->folded != NULL)
        TRY(cpu_scratch_reserve(n, &n->first->plain, weight_elements(l) * sizeof(float)));
    if (!n->engine->dnn.narrow) // ours are f32 alone
        own_describe(&l->conv->own, &shape, l->in.channels, l->out.channels, n->engine->dnn.block);
fail:
    return rc;
}

static int conv_set_weights(struct cpu_network *n, struct layer *l)
{
    const struct conv_state *c = l->conv;
    if (has_bias(l))
        set_bias(n, l);
    for (int d = DNN_FORWARD; d <= DNN_BACKWARD_DATA; d++)
        if (is_own(l, d) && conv_has_direction(n, l, d))
            own_set_weights(&c->own, plain_weights(n, l, false), d == DNN_BACKWARD_DATA,
                            c->own.weights[d]);
    return pack_weights(n, l, 0);
}

static int conv_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    return conv_run(n, l, &k->op[OP_FORWARD], n->host.count, DNN_FORWARD,
                    l->conv->algorithm[DNN_FORWARD]);
}

// dense [out, in, taps] = of rows whose both sides are padded.
static void drop_padding(const struct layer *l, const float *padded, float *dense)
{
    size_t taps = kernel_taps(l), row = l->in.channels * taps;
    for (int o = 0; o < l->out.channels; o++)
        memcpy(dense + o * row, padded + o * l->in.padded * taps, row * sizeof(float));
}

// From the staging buffer into the arena, padding dropped.
static int unpack_gradients(struct cpu_network *n, struct layer *l, struct dnn_op *unpack,
                            float *gradients)
{
    const struct param *weight = cpu_param(n, l->node->weight);
    struct dnn *d = &n->engine->dnn;
    float *to = gradients + weight->offset;
    int rc = RETORT_OK;
    if (l->node->has_bias)
        memcpy(gradients + cpu_param(n, l->node->bias)->offset, l->conv->bias_gradient,
               (size_t)l->out.channels * sizeof(float));
    if (is_own(l, DNN_BACKWARD_WEIGHTS)) {
        memcpy(to, n->first->staging.data, weight->count * sizeof(float));
        return RETORT_OK;
    }
    TRY(dnn_op_bind(d, unpack, DNNL_ARG_FROM, n->first->staging.data));
    TRY(dnn_op_bind(d, unpack, DNNL_ARG_TO, weights_padded(l) ? n->first->plain.data : to));
    TRY(cpu_op_run(n, unpack));
    if (weights_padded(l))
        drop_padding(l, n->first->plain.data, to);
fail:
    return rc;
}

static int conv_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                         float *gradients)
{
    const enum conv_algorithm *algorithm = l->conv->algorithm;
    int count = n->host.count, rc = RETORT_OK;
    if (l->relu)
        relu_backward(n, l);
    TRY(conv_run(n, l, &k->op[OP_BACKWARD_WEIGHTS], count, DNN_BACKWARD_WEIGHTS,
                 algorithm[DNN_BACKWARD_WEIGHTS]));
    TRY(unpack_gradients(n, l, &k->op[OP_UNPACK], gradients));
    if (l->dx != NULL)
        TRY(conv_run(n, l, &k->op[OP_BACKWARD_DATA], count, DNN_BACKWARD_DATA,
                     algorithm[DNN_BACKWARD_DATA]));
fail:
    return rc;
}

static void conv_close(struct layer *l)
{
    for (int i = 0; l->conv != NULL && i < CONV_PACKS; i++)
        dnn_op_free(&l->conv->packs[i].pack);
}

const struct layer_ops CONV_LAYER = {.open = conv_open,
                                     .build = conv_build,
                                     .set_weights = conv_set_weights,
                                     .forward = conv_forward,
                                     .backward = conv_backward,
                                     .close = conv_close};
