// Convolutions and linear layers: what cuDNN is asked for, and its runs.
//
// A convolution is three convolution graphs; two more are forward and the data gradient with a
// BatchNorm's sums. A linear layer reads its input as one row a sample, channels innermost; in bf16
// and f16 it is three matrix products with f32 results where they help (logits, weight gradients).
// In f32 it is a 1 × 1 convolution, because cuDNN's matrix products take f32 as tf32 and its
// convolutions need not.

#include <stdlib.h>

#include "models/cuda/network.h"

static cudnnDataType_t dnn_type(enum element_type type)
{
    static const cudnnDataType_t TYPES[] = {[ELEMENT_F32] = CUDNN_DATA_FLOAT,
                                            [ELEMENT_BF16] = CUDNN_DATA_BFLOAT16,
                                            [ELEMENT_F16] = CUDNN_DATA_HALF};
    return TYPES[type];
}

// ---- shapes

// Of the plain directions with sums.
static void sums_shapes(struct product *p, int out, int in)
{
    struct dnn_product *output = &p->shape[TO_OUTPUT_WITH_SUMS];
    struct dnn_product *input = &p->shape[TO_INPUT_WITH_SUMS];
    *output = p->shape[TO_OUTPUT];
    *input = p->shape[TO_INPUT];
    for (int i = DNN_SUM; i <= DNN_SECOND_SUM; i++)
        output->operand[i] = dnn_pictures(CUDNN_DATA_FLOAT, 1, out, 1, 1);
    for (int i = DNN_SUM; i < DNN_OPERANDS; i++)
        input->operand[i] = dnn_pictures(CUDNN_DATA_FLOAT, 1, in, 1, 1);
    input->operand[DNN_NORM_X] = input->operand[DNN_RESULT];
}

static void conv_shapes(struct product *p, const struct cuda_network *n, const struct cuda_layer *l)
{
    cudnnDataType_t type = dnn_type(n->engine->type);
    int in = channels_padded(l->in.channels), out = channels_padded(l->out.channels);
    int kernel = l->node->kernel;
    struct dnn_tensor x = dnn_pictures(type, n->max_batch, in, l->in.height, l->in.width);
    struct dnn_tensor y = dnn_pictures(type, n->max_batch, out, l->out.height, l->out.width);
    struct dnn_tensor w = dnn_pictures(type, out, in, kernel, kernel);
    p->shape[TO_OUTPUT] = (struct dnn_product){DNN_CONV_FORWARD, {x, w, y}, 0, 0};
    p->shape[TO_INPUT] = (struct dnn_product){DNN_CONV_DATA, {y, w, x}, 0, 0};
    p->shape[TO_WEIGHTS] = (struct dnn_product){DNN_CONV_WEIGHTS, {x, y, w}, 0, 0};
    sums_shapes(p, out, in);
    for (int d = 0; d < DIRECTIONS; d++) {
        p->shape[d].stride = l->node->stride;
        p->shape[d].padding = l->node->padding;
    }
}

static void linear_f32_shapes(struct product *p, const struct cuda_network *n,
                              const struct cuda_layer *l)
{
    int64_t in = (int64_t)cuda_shape_elements(&l->in), out = channels_padded(l->out.channels);
    struct dnn_tensor x = dnn_pictures(CUDNN_DATA_FLOAT, n->max_batch, in, 1, 1);
    struct dnn_tensor y = dnn_pictures(CUDNN_DATA_FLOAT, n->max_batch, out, 1, 1);
    struct dnn_tensor w = dnn_pictures(CUDNN_DATA_FLOAT, out, in, 1, 1);
    p->shape[TO_OUTPUT] = (struct dnn_product){DNN_CONV_FORWARD, {x, w, y}, 1, 0};
    p->shape[TO_INPUT] = (struct dnn_product){DNN_CONV_DATA, {y, w, x}, 1, 0};
    p->shape[TO_WEIGHTS] = (struct dnn_product){DNN_CONV_WEIGHTS, {x, y, w}, 1, 0};
}

static void linear_narrow_shapes(struct product *p, const struct cuda_network *n,
                                 const struct cuda_layer *l)
{
    const cudnnDataType_t narrow = dnn_type(n->engine->type), wide = CUDNN_DATA_FLOAT;
    int64_t in = (int64_t)cuda_shape_elements(&l->in), out = channels_padded(l->out.channels);
    struct dnn_tensor x = dnn_matrix(narrow, n->max_batch, in), w = dnn_matrix(narrow, out, in);
    struct dnn_tensor dy = dnn_matrix(narrow, n->max_batch, out);
    struct dnn_tensor y = dnn_matrix(l->last ? wide : narrow, n->max_batch, out);
    p->shape[TO_OUTPUT] = (struct dnn_product){DNN_MATMUL, {x, dnn_transposed(w), y}, 0, 0};
    p->shape[TO_INPUT] = (struct dnn_product){DNN_MATMUL, {dy, w, x}, 0, 0};
    p->shape[TO_WEIGHTS] =
        (struct dnn_product){DNN_MATMUL, {dnn_transposed(dy), x, dnn_matrix(wide, out, in)}, 0, 0};
}

void cuda_product_shapes(struct product *p, const struct cuda_network *n,
                         const struct cuda_layer *l)
{
    p->gradient_type = n->engine->type;
    if (l->node->kind == NODE_CONV) {
        conv_shapes(p, n, l);
    } else if (n->engine->type != ELEMENT_F32) {
        linear_narrow_shapes(p, n, l);
        p->gradient_type = ELEMENT_F32;
    } else {
        linear_f32_shapes(p, n, l);
    }
}

static void product_filter(struct product *p, const struct cuda_network *n,
                           const struct cuda_layer *l, size_t packed)
{
    bool linear = l->node->kind == NODE_LINEAR;
    int taps = linear ? l->in.height * l->in.width : l->node->kernel * l->node->kernel;
    p->filter = (struct filter){.arena = n->graph->params[l->node->weight].offset,
                                .packed = packed,
                                .out = (uint32_t)l->out.channels,
                                .in = (uint32_t)l->in.channels,
                                .taps = (uint32_t)taps};
}

// ---- life

// Filters and the pieces that pack them, on the GPU.
static int upload_filters(struct cuda_network *n)
{
    struct filter *filters = calloc((size_t)n->product_count, sizeof(*filters));
    struct pack_piece *pieces = NULL;
    int rc = RETORT_OK;
    TRY_ELSE(filters != NULL, RETORT_MEMORY, "no memory for %s", n->graph->arch);
    for (int i = 0; i < n->product_count; i++)
        filters[i] = n->products[i].filter;
    n->piece_count = pack_pieces(filters, n->product_count, NULL);
    pieces = calloc(n->piece_count, sizeof(*pieces));
    TRY_ELSE(pieces != NULL, RETORT_MEMORY, "no memory for %s", n->graph->arch);
    pack_pieces(filters, n->product_count, pieces);
    TRY(cuda_network_alloc(n, (size_t)n->product_count * sizeof(*filters), &n->filters));
    TRY(cuda_network_alloc(n, n->piece_count * sizeof(*pieces), &n->pieces));
    TRY(n->base.ops->upload(&n->engine->base, n->filters, filters,
                            (size_t)n->product_count * sizeof(*filters)));
    TRY(n->base.ops->upload(&n->engine->base, n->pieces, pieces, n->piece_count * sizeof(*pieces)));
fail:
    free(filters);
    free(pieces);
    return rc;
}

int cuda_products_create(struct cuda_network *n)
{
    struct cuda_network *first = n->first;
    size_t packed = 0, most = 0;
    int rc = RETORT_OK, at = 0;
    if (first == n)
        n->products = calloc((size_t)n->layer_count, sizeof(*n->products));
    TRY_ELSE(first->products != NULL, RETORT_MEMORY, "no memory for %s", n->graph->arch);
    for (int i = 0; i < n->layer_count; i++) {
        struct cuda_layer *l = &n->layers[i];
        if (l->ops != &CUDA_PRODUCT_LAYER)
            continue;
        l->product = &first->products[at++];
        if (first != n)
            continue;
        cuda_product_shapes(l->product, n, l);
        product_filter(l->product, n, l, packed);
        size_t count = filter_packed_count(&l->product->filter);
        packed += count; // a multiple of 64 elements: the next one is aligned
        most = count > most ? count : most;
    }
    if (first != n)
        return rc;
    n->product_count = at;
    TRY(cuda_network_alloc(n, packed * element_bytes(n->engine->type), &n->packed));
    if (n->training)
        TRY(cuda_network_alloc(n, most * sizeof(float), &n->weight_gradient));
    TRY(upload_filters(n));
fail:
    return rc;
}

void cuda_products_destroy(struct cuda_network *n)
{
    for (int i = 0; i < n->product_count; i++)
        for (int d = 0; d < DIRECTIONS; d++)
            dnn_plan_destroy(&n->products[i].plan[d]);
    (void)cudaFree(n->workspace);
    free(n->products);
}

// ---- runs

// Whether what a BatchNorm reads is the convolution's output as it comes.
static bool feeds_norm(const struct cuda_layer *l)
{
    return l->node->kind == NODE_CONV && l->node->bias < 0 && !l->relu &&
           l[1].ops == &CUDA_NORM_LAYER;
}

// Whether its input's gradient, masked, is what a BatchNorm sums up.
static bool follows_norm(const struct cuda_network *n, const struct cuda_layer *l)
{
    return l->node->kind == NODE_CONV && l > n->layers && l[-1].ops == &CUDA_NORM_LAYER &&
           l[-1].relu && l[-1].pool == 0;
}

bool cuda_product_has(const struct cuda_network *n, const struct cuda_layer *l,
                      enum direction direction)
{
    if (direction == TO_OUTPUT_WITH_SUMS)
        return n->training && feeds_norm(l);
    if (direction == TO_INPUT_WITH_SUMS)
        return n->training && follows_norm(n, l);
    return direction == TO_OUTPUT || (n->training && (direction == TO_WEIGHTS || l->dx != NULL));
}

bool cuda_product_sums(const struct cuda_network *n, const struct cuda_layer *l,
                       enum cuda_pass pass)
{
    enum direction d = pass == CUDA_FORWARD ? TO_OUTPUT_WITH_SUMS : TO_INPUT_WITH_SUMS;
    return n->mode == FORWARD_TRAIN && l->product != NULL && l->product->plan[d].plan != NULL;
}

// Partial sums of one block, and what the data gradient's are made from.
static void bind_sums(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                      void *operands[DNN_OPERANDS])
{
    int channels = direction == TO_INPUT_WITH_SUMS ? l->in.channels : l->out.channels;
    operands[DNN_SUM] = n->partials;
    operands[DNN_SECOND_SUM] = n->partials + channels_padded(channels);
    if (direction != TO_INPUT_WITH_SUMS)
        return;
    operands[DNN_NORM_X] = cuda_layer_input(n, &l[-1]);
    operands[DNN_NORM_MEAN] = norm_vector_of(&l[-1].norm, NORM_MEAN, channels);
    operands[DNN_NORM_SCALE] = norm_vector_of(&l[-1].norm, NORM_SCALE, channels);
    operands[DNN_NORM_SHIFT] = norm_vector_of(&l[-1].norm, NORM_SHIFT, channels);
}

int cuda_product_run(struct cuda_network *n, struct cuda_layer *l, enum direction direction)
{
    const struct product *p = l->product;
    void *w = (char *)n->first->packed + p->filter.packed * element_bytes(n->engine->type);
    void *x = cuda_layer_input(n, l);
    void *operands[DIRECTIONS][DNN_OPERANDS] = {
        [TO_OUTPUT] = {x, w, l->y},
        [TO_INPUT] = {l->dy, w, l->dx},
        [TO_WEIGHTS] = {x, l->dy, n->first->weight_gradient},
        [TO_OUTPUT_WITH_SUMS] = {x, w, l->y},
        [TO_INPUT_WITH_SUMS] = {l->dy, w, l->dx},
    };
    void *const swapped[DNN_OPERANDS] = {l->dy, x, n->first->weight_gradient};
    if (cuda_has_sums(direction))
        bind_sums(n, l, direction, operands[direction]);
    bool transposed = direction == TO_WEIGHTS && p->shape[direction].operation == DNN_MATMUL;
    return dnn_call_run(&l->calls[direction], &p->plan[direction], n->engine->dnn,
                        transposed ? swapped : operands[direction], n->first->workspace);
}
