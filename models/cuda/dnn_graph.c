// Products as cuDNN's operation graphs.

#include "models/cuda/dnn.h"

#include "models/cuda/dnn_desc.h"

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

// Descriptors of one graph: its parts may go once it is whole, cuDNN keeps what it needs.
struct parts {
    dnn_desc made[DNN_OPERANDS + 3]; // tensors, operations and what describes them
    int count;
};

static int part_new(struct parts *p, cudnnBackendDescriptorType_t type, dnn_desc *out)
{
    int rc = dnn_desc_create(out, type);
    if (rc == RETORT_OK)
        p->made[p->count++] = *out;
    return rc;
}

static int tensor_new(struct parts *p, dnn_desc *out, const struct dnn_tensor *t, int64_t id)
{
    const int64_t alignment = ALIGNMENT_BYTES;
    int rc = RETORT_OK;
    TRY(part_new(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, (int)t->type));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, t->rank, t->dims));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_STRIDES, t->rank, t->strides));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &id));
    TRY(dnn_set_ints(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, &alignment));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

static int convolution_new(struct parts *p, dnn_desc *out, int stride, int padding)
{
    const int64_t spatial = SPATIAL, strides[SPATIAL] = {stride, stride},
                  paddings[SPATIAL] = {padding, padding}, dilations[SPATIAL] = {1, 1};
    int rc = RETORT_OK;
    TRY(part_new(p, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
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

static int matmul_new(struct parts *p, dnn_desc *out)
{
    int rc = RETORT_OK;
    TRY(part_new(p, CUDNN_BACKEND_MATMUL_DESCRIPTOR, out));
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

static int operation_new(struct parts *parts, dnn_desc *out, const struct dnn_product *p,
                         const dnn_desc tensors[DNN_OPERANDS])
{
    const struct form *form = &FORMS[p->operation];
    dnn_desc kind;
    int rc = RETORT_OK;
    if (p->operation == DNN_MATMUL)
        TRY(matmul_new(parts, &kind));
    else
        TRY(convolution_new(parts, &kind, p->stride, p->padding));
    TRY(part_new(parts, form->type, out));
    TRY(dnn_set_descs(*out, form->kind, 1, &kind));
    for (int i = 0; i < DNN_FACTORS_AND_RESULT; i++)
        TRY(dnn_set_descs(*out, form->operand[i], 1, &tensors[i]));
    TRY(set_scaling(*out, p->operation));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

// The sums of the result's channels, and of their squares.
static int sums_new(struct parts *parts, dnn_desc *out, const dnn_desc tensors[DNN_OPERANDS])
{
    int rc = RETORT_OK;
    TRY(part_new(parts, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, out));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE,
                     CUDNN_GENSTATS_SUM_SQSUM));
    TRY(dnn_set_enum(*out, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE,
                     CUDNN_DATA_FLOAT));
    TRY(dnn_set_descs(*out, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, 1, &tensors[2]));
    TRY(dnn_set_descs(*out, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, 1, &tensors[3]));
    TRY(dnn_set_descs(*out, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, 1, &tensors[4]));
    TRY(dnn_finalize(*out));
fail:
    return rc;
}

int dnn_graph_create(dnn_desc *out, const struct dnn_target *target, const struct dnn_product *p)
{
    struct parts parts = {0};
    dnn_desc tensors[DNN_OPERANDS], operations[2];
    int rc = RETORT_OK, count = 0;
    *out = NULL;
    for (int i = 0; i < DNN_OPERANDS && p->operand[i].rank > 0; i++)
        TRY(tensor_new(&parts, &tensors[i], &p->operand[i], i + 1));
    TRY(operation_new(&parts, &operations[count++], p, tensors));
    if (p->operand[DNN_FACTORS_AND_RESULT].rank > 0)
        TRY(sums_new(&parts, &operations[count++], tensors));
    TRY(dnn_desc_create(out, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR));
    TRY(dnn_set_descs(*out, CUDNN_ATTR_OPERATIONGRAPH_OPS, count, operations));
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
