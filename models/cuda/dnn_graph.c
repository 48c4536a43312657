// Products as cuDNN's operation graphs.

#include "models/cuda/dnn_parts.h"

// cuDNN wants addresses of this alignment, which cudaMalloc's have.
enum { ALIGNMENT_BYTES = 16, SPATIAL = 2 };

struct dnn_tensor dnn_pictures(cudnnDataType_t type, int64_t count, int64_t channels,
                               int64_t height, int64_t width)
{
    return (struct dnn_tensor){
        .type = type,
        .rank = 4,
        .dims = {count, channels, height, width},
        .strides = {height * width * channels, 1, width * channels, channels}};
}

struct dnn_tensor dnn_matrix(cudnnDataType_t type, int64_t rows, int64_t columns)
{
    return (struct dnn_tensor){.type = type,
                               .rank = 3,
                               .dims = {1, rows, columns},
                               .strides = {rows * columns, columns, 1}};
}

struct dnn_tensor dnn_transposed(struct dnn_tensor m)
{
    struct dnn_tensor t = m;
    t.dims[1] = m.dims[2];
    t.dims[2] = m.dims[1];
    t.strides[1] = m.strides[2];
    t.strides[2] = m.strides[1];
    return t;
}

// ---- parts

int dnn_part_new(struct dnn_parts *p, cudnnBackendDescriptorType_t type, dnn_desc *out)
{
    CHECK(p->count < DNN_PARTS);
    int rc = dnn_desc_create(out, type);
    if (rc == RETORT_OK)
        p->made[p->count++] = *out;
    return rc;
}

int dnn_operation_new(struct dnn_parts *p, cudnnBackendDescriptorType_t type, dnn_desc *out)
{
    CHECK(p->operation_count < DNN_OPERATIONS);
    int rc = dnn_part_new(p, type, out);
    if (rc == RETORT_OK)
        p->operations[p->operation_count++] = *out;
    return rc;
}

int dnn_tensor_new(struct dnn_parts *p, dnn_desc *out, const struct dnn_tensor *t, bool transient)
{
    const int64_t alignment = ALIGNMENT_BYTES, id = ++p->ids;
    int rc = RETORT_OK;
    TRY(dnn_part_new(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, (int)t->type));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, t->rank, t->dims));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_STRIDES, t->rank, t->strides));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &id));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, &alignment));
    TRY(dnn_set(*out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &transient));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

// ---- products

static int convolution_new(struct dnn_parts *p, dnn_desc *out, int stride, int padding)
{
    const int64_t spatial = SPATIAL, strides[SPATIAL] = {stride, stride},
                  paddings[SPATIAL] = {padding, padding}, dilations[SPATIAL] = {1, 1};
    int rc = RETORT_OK;
    TRY(dnn_part_new(p, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE,
                     CUDNN_DATA_FLOAT));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE,
                     CUDNN_CROSS_CORRELATION));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 1, &spatial));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, SPATIAL, strides));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, SPATIAL, paddings));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, SPATIAL, paddings));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_CONVOLUTION_DILATIONS, SPATIAL, dilations));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

static int matmul_new(struct dnn_parts *p, dnn_desc *out)
{
    int rc = RETORT_OK;
    TRY(dnn_part_new(p, CUDNN_BACKEND_MATMUL_DESCRIPTOR, out));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

// How each operation names its descriptor and its operands.
struct form {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t kind, operand[DNN_FACTORS_AND_RESULT];
};
static const struct form FORMS[] = {
    [DNN_CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                          {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}},
    [DNN_CONV_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                       {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX}},
    [DNN_CONV_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                          {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW}},
    [DNN_MATMUL] = {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_MATMUL_DESC,
                    {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC,
                     CUDNN_ATTR_OPERATION_MATMUL_CDESC}},
};

// Convolutions have alpha and beta, and cuDNN wants them said.
static int set_scaling(dnn_desc d, enum dnn_operation operation)
{
    static const cudnnBackendAttributeName_t NAMES[][2] = {
        [DNN_CONV_FORWARD] = {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        [DNN_CONV_DATA] = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                           CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        [DNN_CONV_WEIGHTS] = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    int rc = RETORT_OK;
    if (operation == DNN_MATMUL)
        return rc;
    TRY(dnn_set_float(d, NAMES[operation][0], 1.0F));
    TRY(dnn_set_float(d, NAMES[operation][1], 0.0F));
fail:
    return rc;
}

static int product_new(struct dnn_parts *parts, const struct dnn_product *p,
                       const dnn_desc operands[DNN_FACTORS_AND_RESULT])
{
    const struct form *form = &FORMS[p->operation];
    dnn_desc kind, d;
    int rc = RETORT_OK;
    if (p->operation == DNN_MATMUL)
        TRY(matmul_new(parts, &kind));
    else
        TRY(convolution_new(parts, &kind, p->stride, p->padding));
    TRY(dnn_operation_new(parts, form->type, &d));
    TRY(dnn_set_descs(d, form->kind, 1, &kind));
    for (int i = 0; i < DNN_FACTORS_AND_RESULT; i++)
        TRY(dnn_set_descs(d, form->operand[i], 1, &operands[i]));
    TRY(set_scaling(d, p->operation));
    TRY(dnn_finalize(d));
fail:
    return rc;
}

// The product, with the sums that its operands ask for.
static int operations_new(struct dnn_parts *parts, const struct dnn_product *p)
{
    dnn_desc tensors[DNN_OPERANDS];
    struct dnn_tensor raw = p->operand[DNN_RESULT];
    int rc = RETORT_OK;
    for (int i = 0; i < DNN_OPERANDS && p->operand[i].rank > 0; i++)
        TRY(dnn_tensor_new(parts, &tensors[i], &p->operand[i], false));
    if (p->operand[DNN_NORM_X].rank == 0) {
        TRY(product_new(parts, p, tensors));
        if (p->operand[DNN_SUM].rank > 0)
            TRY(dnn_output_sums_new(parts, tensors));
        return rc;
    }
    dnn_desc factors[DNN_FACTORS_AND_RESULT] = {tensors[0], tensors[1]};
    raw.type = CUDNN_DATA_FLOAT;
    TRY(dnn_tensor_new(parts, &factors[DNN_RESULT], &raw, true));
    TRY(product_new(parts, p, factors));
    TRY(dnn_gradient_sums_new(parts, &raw, factors[DNN_RESULT], tensors));
fail:
    return rc;
}

int dnn_graph_create(dnn_desc *out, const struct dnn_target *target, const struct dnn_product *p)
{
    struct dnn_parts parts = {0};
    int rc = RETORT_OK;
    *out = NULL;
    TRY(operations_new(&parts, p));
    TRY(dnn_desc_create(out, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
    TRY(dnn_set_descs(*out, CUDNN_ATTR_OPERATIONGRAPH_OPS, parts.operation_count,
                      parts.operations));
    if (target->handle != NULL)
        TRY(dnn_set_handle(*out, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, target->handle));
    TRY(dnn_finalize(*out));
fail:
    while (parts.count > 0)
        dnn_desc_destroy(&parts.made[--parts.count]);
    if (rc != RETORT_OK)
        dnn_desc_destroy(out);
    return rc;
}
