// What a product adds up for a BatchNorm while it writes its result, as further operations of its
// graph.

#include "models/cuda/dnn_parts.h"

int dnn_output_sums_new(struct dnn_parts *p, const dnn_desc tensors[DNN_OPERANDS])
{
    dnn_desc d;
    int rc = RETORT_OK;
    TRY(dnn_operation_new(p, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, &d));
    TRY(dnn_set_enum(d, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE,
                     CUDNN_GENSTATS_SUM_SQSUM));
    TRY(dnn_set_enum(d, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE,
                     CUDNN_DATA_FLOAT));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, 1, &tensors[DNN_RESULT]));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, 1, &tensors[DNN_SUM]));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, 1, &tensors[DNN_SECOND_SUM]));
    TRY(dnn_finalize(d));
fail:
    return rc;
}

// out = a (mode) b; RELU_BWD: a where b > 0, else 0.
static int pointwise_new(struct dnn_parts *p, cudnnPointwiseMode_t mode, dnn_desc a, dnn_desc b,
                         dnn_desc out)
{
    const bool backward = mode == CUDNN_POINTWISE_RELU_BWD;
    dnn_desc kind, d;
    int rc = RETORT_OK;
    TRY(dnn_part_new(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &kind));
    TRY(dnn_set_enum(kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, (int)mode));
    TRY(dnn_set_enum(kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT));
    TRY(dnn_finalize(kind));
    TRY(dnn_operation_new(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, &d));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 1, &kind));
    TRY(dnn_set_descs(
        d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DYDESC : CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
        1, &a));
    TRY(dnn_set_descs(
        d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_XDESC : CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
        1, &b));
    TRY(dnn_set_descs(
        d, backward ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC,
        1, &out));
    TRY(dnn_finalize(d));
fail:
    return rc;
}

// The channels of x, added up: not by atomics, of which no engine's notes would tell.
static int reduction_new(struct dnn_parts *p, dnn_desc x, dnn_desc sum)
{
    const bool same_bits = true;
    dnn_desc kind, d;
    int rc = RETORT_OK;
    TRY(dnn_part_new(p, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, &kind));
    TRY(dnn_set_enum(kind, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
                     CUDNN_REDUCE_TENSOR_ADD));
    TRY(dnn_set_enum(kind, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT));
    TRY(dnn_set(kind, CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, CUDNN_TYPE_BOOLEAN, 1, &same_bits));
    TRY(dnn_finalize(kind));
    TRY(dnn_operation_new(p, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, &d));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, 1, &kind));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, 1, &x));
    TRY(dnn_set_descs(d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, 1, &sum));
    TRY(dnn_finalize(d));
fail:
    return rc;
}

int dnn_gradient_sums_new(struct dnn_parts *p, const struct dnn_tensor *raw_shape, dnn_desc raw,
                          const dnn_desc tensors[DNN_OPERANDS])
{
    enum { DISTANCE, SCALED, BEFORE_RELU, PRODUCT, TRANSIENT };
    dnn_desc t[TRANSIENT], dz = tensors[DNN_RESULT];
    int rc = RETORT_OK;
    for (int i = 0; i < TRANSIENT; i++)
        TRY(dnn_tensor_new(p, &t[i], raw_shape, true));
    TRY(pointwise_new(p, CUDNN_POINTWISE_SUB, tensors[DNN_NORM_X], tensors[DNN_NORM_MEAN],
                      t[DISTANCE]));
    TRY(pointwise_new(p, CUDNN_POINTWISE_MUL, t[DISTANCE], tensors[DNN_NORM_SCALE], t[SCALED]));
    TRY(pointwise_new(p, CUDNN_POINTWISE_ADD, t[SCALED], tensors[DNN_NORM_SHIFT], t[BEFORE_RELU]));
    TRY(pointwise_new(p, CUDNN_POINTWISE_RELU_BWD, raw, t[BEFORE_RELU], dz));
    TRY(pointwise_new(p, CUDNN_POINTWISE_MUL, dz, t[DISTANCE], t[PRODUCT]));
    TRY(reduction_new(p, dz, tensors[DNN_SUM]));
    TRY(reduction_new(p, t[PRODUCT], tensors[DNN_SECOND_SUM]));
fail:
    return rc;
}
