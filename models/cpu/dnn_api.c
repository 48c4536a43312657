#include "models/cpu/dnn_api.h"

#include <oneapi/dnnl/dnnl_debug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define TRY_DNNL(call)                                                                             \
    do {                                                                                           \
        dnnl_status_t status_ = (call);                                                            \
        if (status_ != dnnl_success) {                                                             \
            rc = FAIL(status_ == dnnl_out_of_memory ? RETORT_MEMORY : RETORT_FAILED,               \
                      "oneDNN: %.*s: %s", (int)strcspn(#call, "("), #call,                         \
                      dnnl_status2str(status_));                                                   \
            goto fail;                                                                             \
        }                                                                                          \
    } while (0)

// ---- formats: a value in version 2, a handle in version 3

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t format_t;          // owned
typedef const_dnnl_memory_desc_t format_view; // borrowed
#define VIEW(format) (format)
static void format_free(format_t *f)
{
    if (*f != NULL)
        dnnl_memory_desc_destroy(*f);
    *f = NULL;
}
static dnnl_status_t format_init(format_t *f, int rank, const dnnl_dims_t dims,
                                 dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(f, rank, dims, type, tag);
}
#define NO_FORMAT NULL
#else
typedef dnnl_memory_desc_t format_t;
typedef const dnnl_memory_desc_t *format_view;
#define VIEW(format) (&(format))
static void format_free(format_t *f)
{
    (void)f;
}
static dnnl_status_t format_init(format_t *f, int rank, const dnnl_dims_t dims,
                                 dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(f, rank, dims, type, tag);
}
#define NO_FORMAT                                                                                  \
    {                                                                                              \
        .ndims = 0                                                                                 \
    }
#endif

static format_view format_of(const struct dnn_op *op, int arg)
{
    return dnnl_primitive_desc_query_md(op->description, dnnl_query_exec_arg_md, arg);
}

static dnnl_status_t init4(format_t *f, int a, int b, int c, int d, dnnl_data_type_t type,
                           dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {a, b, c, d};
    return format_init(f, 4, dims, type, tag);
}

static dnnl_format_tag_t blocked(const struct dnn *d)
{
    if (d->narrow)
        return dnnl_nhwc;
    return d->block == 16 ? dnnl_nChw16c : dnnl_nChw8c;
}

static dnnl_data_type_t narrowest(const struct dnn *d)
{
    return d->narrow ? dnnl_bf16 : dnnl_f32;
}

// ---- the device

static const char *isa_name(dnnl_cpu_isa_t isa)
{
    switch ((int)isa) {
    case dnnl_cpu_isa_sse41:
        return "sse41";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    default:
        return "another instruction set";
    }
}

void dnn_describe(const struct dnn *d, char *out, size_t out_bytes)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, out_bytes, "oneDNN %d.%d.%d, %s%s", v->major, v->minor, v->patch,
             isa_name(dnnl_get_effective_cpu_isa()), d->narrow ? ", bf16" : "");
}

// The values of the enumeration are bit sets: a newer set contains the older ones.
static bool has_isa(dnnl_cpu_isa_t isa)
{
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}

int dnn_open(struct dnn *d, bool narrow)
{
    int rc = RETORT_OK;
    *d = (struct dnn){.block = 8, .narrow = narrow};
    if (has_isa(dnnl_cpu_isa_avx512_core))
        d->block = 16;
    TRY_ELSE(!narrow || has_isa(dnnl_cpu_isa_avx512_core_bf16), RETORT_USAGE,
             "bf16 takes a processor with AVX-512-bf16 or AMX, which this one has not; use "
             "run.precision: f32, or go on with a run in bf16 where it began");
    TRY_DNNL(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    TRY_DNNL(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_in_order));
    return RETORT_OK;
fail:
    dnn_close(d);
    return rc;
}

void dnn_close(struct dnn *d)
{
    if (d->stream != NULL)
        dnnl_stream_destroy(d->stream);
    if (d->engine != NULL)
        dnnl_engine_destroy(d->engine);
    *d = (struct dnn){0};
}

// ---- operations

void dnn_op_free(struct dnn_op *op)
{
    for (int i = 0; i < op->count; i++)
        dnnl_memory_destroy(op->args[i].memory);
    if (op->primitive != NULL)
        dnnl_primitive_destroy(op->primitive);
    if (op->description != NULL)
        dnnl_primitive_desc_destroy(op->description);
    *op = (struct dnn_op){0};
}

size_t dnn_op_bytes(const struct dnn_op *op, int arg)
{
    format_view f = op->description != NULL ? format_of(op, arg) : NULL;
    return f != NULL ? dnnl_memory_desc_get_size(f) : 0;
}

int dnn_op_bind(const struct dnn *d, struct dnn_op *op, int arg, void *data)
{
    int rc = RETORT_OK;
    for (int i = 0; i < op->count; i++)
        if (op->args[i].arg == arg) {
            TRY_DNNL(dnnl_memory_set_data_handle(op->args[i].memory, data));
            return RETORT_OK;
        }
    CHECK(op->count < DNN_ARGS);
    op->args[op->count].arg = arg;
    TRY_DNNL(dnnl_memory_create(&op->args[op->count].memory, format_of(op, arg), d->engine, data));
    op->count++;
fail:
    return rc;
}

int dnn_op_run(const struct dnn *d, const struct dnn_op *op)
{
    int rc = RETORT_OK;
    TRY_DNNL(dnnl_primitive_execute(op->primitive, d->stream, op->count, op->args));
    TRY_DNNL(dnnl_stream_wait(d->stream));
fail:
    return rc;
}

bool dnn_op_same_format(const struct dnn_op *a, int a_arg, const struct dnn_op *b, int b_arg)
{
    return dnnl_memory_desc_equal(format_of(a, a_arg), format_of(b, b_arg)) != 0;
}

// Attributes all operations have: the scratchpad is ours. NULL when memory is short.
static dnnl_primitive_attr_t attributes(bool relu)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return NULL;
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (relu && dnnl_post_ops_create(&post) == dnnl_success) {
#if DNNL_VERSION_MAJOR >= 3
        dnnl_post_ops_append_eltwise(post, dnnl_eltwise_relu, 0.0F, 0.0F);
#else
        dnnl_post_ops_append_eltwise(post, 1.0F, dnnl_eltwise_relu, 0.0F, 0.0F);
#endif
        dnnl_primitive_attr_set_post_ops(attr, post);
        dnnl_post_ops_destroy(post);
    }
    return attr;
}

// ---- convolution

struct conv_formats {
    format_t x, w, b, y;
};

static void conv_formats_free(struct conv_formats *f)
{
    format_free(&f->x);
    format_free(&f->w);
    format_free(&f->b);
    format_free(&f->y);
}

static dnnl_status_t conv_formats_init(struct conv_formats *f, const struct dnn *d,
                                       const struct dnn_conv *s, enum dnn_direction direction)
{
    dnnl_dims_t outputs = {s->out};
    dnnl_data_type_t w = direction == DNN_BACKWARD_WEIGHTS ? dnnl_f32 : narrowest(d);
    dnnl_data_type_t y = s->wide_output && direction == DNN_FORWARD ? dnnl_f32 : narrowest(d);
    dnnl_status_t status = init4(&f->x, s->count, s->in, s->in_height, s->in_width, narrowest(d),
                                 s->plain_input ? dnnl_nchw : blocked(d));
    if (status == dnnl_success)
        status = init4(&f->w, s->out, s->in, s->kernel, s->kernel, w, dnnl_format_tag_any);
    if (status == dnnl_success)
        status = init4(&f->y, s->count, s->out, s->out_height, s->out_width, y, blocked(d));
    if (status == dnnl_success && s->bias)
        status = format_init(&f->b, 1, outputs, dnnl_f32, dnnl_a);
    return status;
}

static dnnl_status_t conv_describe_by(dnnl_primitive_desc_t *out, const struct dnn *d,
                                      const struct dnn_conv *s, const struct conv_formats *f,
                                      enum dnn_direction direction, enum dnn_algorithm algorithm,
                                      dnnl_primitive_desc_t hint)
{
    dnnl_dims_t stride = {s->stride, s->stride}, before = {s->padding, s->padding};
    dnnl_dims_t after = {(s->out_height - 1) * s->stride + s->kernel - s->padding - s->in_height,
                         (s->out_width - 1) * s->stride + s->kernel - s->padding - s->in_width};
    dnnl_alg_kind_t kind =
        algorithm == DNN_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct;
    format_view b = s->bias ? VIEW(f->b) : NULL;
    dnnl_primitive_attr_t attr = attributes(s->relu && direction == DNN_FORWARD);
    if (attr == NULL)
        return dnnl_out_of_memory;
    dnnl_status_t status = dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t dense = {0, 0};
    if (direction == DNN_FORWARD)
        status = dnnl_convolution_forward_primitive_desc_create(
            out, d->engine, dnnl_forward_training, kind, f->x, f->w, b, f->y, stride, dense, before,
            after, attr);
    else if (direction == DNN_BACKWARD_DATA)
        status = dnnl_convolution_backward_data_primitive_desc_create(
            out, d->engine, kind, f->x, f->w, f->y, stride, dense, before, after, hint, attr);
    else
        status = dnnl_convolution_backward_weights_primitive_desc_create(
            out, d->engine, kind, f->x, f->w, b, f->y, stride, dense, before, after, hint, attr);
#else
    dnnl_convolution_desc_t desc;
    if (direction == DNN_FORWARD)
        status =
            dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, kind, VIEW(f->x),
                                               VIEW(f->w), b, VIEW(f->y), stride, before, after);
    else if (direction == DNN_BACKWARD_DATA)
        status = dnnl_convolution_backward_data_desc_init(&desc, kind, VIEW(f->x), VIEW(f->w),
                                                          VIEW(f->y), stride, before, after);
    else
        status = dnnl_convolution_backward_weights_desc_init(&desc, kind, VIEW(f->x), VIEW(f->w), b,
                                                             VIEW(f->y), stride, before, after);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &desc, attr, d->engine, hint);
#endif
    dnnl_primitive_attr_destroy(attr);
    return status;
}

// The primitive description of one direction; backward ones need the forward one as a hint.
static dnnl_status_t conv_describe(dnnl_primitive_desc_t *out, const struct dnn *d,
                                   const struct dnn_conv *s, enum dnn_direction direction,
                                   enum dnn_algorithm algorithm, dnnl_primitive_desc_t hint)
{
    struct conv_formats f = {NO_FORMAT, NO_FORMAT, NO_FORMAT, NO_FORMAT};
    dnnl_status_t status = conv_formats_init(&f, d, s, direction);
    if (status == dnnl_success)
        status = conv_describe_by(out, d, s, &f, direction, algorithm, hint);
    conv_formats_free(&f);
    return status;
}

int dnn_conv_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                    enum dnn_direction direction, enum dnn_algorithm algorithm, bool *available)
{
    int rc = RETORT_OK;
    dnnl_primitive_desc_t hint = NULL;
    *out = (struct dnn_op){0};
    dnnl_status_t status = dnnl_success;
    if (direction != DNN_FORWARD)
        status = conv_describe(&hint, d, shape, DNN_FORWARD, algorithm, NULL);
    if (status == dnnl_success)
        status = conv_describe(&out->description, d, shape, direction, algorithm, hint);
    *available = status == dnnl_success;
    if (*available)
        TRY_DNNL(dnnl_primitive_create(&out->primitive, out->description));
    else if (status != dnnl_unimplemented && status != dnnl_invalid_arguments)
        TRY_DNNL(status);
fail:
    if (hint != NULL)
        dnnl_primitive_desc_destroy(hint);
    if (rc != RETORT_OK)
        dnn_op_free(out);
    return rc;
}

// ---- weights: plain OIHW to and from a primitive's format

static int reorder_create(struct dnn_op *out, const struct dnn *d, format_view from, format_view to)
{
    int rc = RETORT_OK;
    *out = (struct dnn_op){0};
    dnnl_primitive_attr_t attr = attributes(false);
    TRY_ELSE(attr != NULL, RETORT_MEMORY, "no memory for a oneDNN reorder");
    TRY_DNNL(dnnl_reorder_primitive_desc_create(&out->description, from, d->engine, to, d->engine,
                                                attr));
    TRY_DNNL(dnnl_primitive_create(&out->primitive, out->description));
fail:
    if (attr != NULL)
        dnnl_primitive_attr_destroy(attr);
    if (rc != RETORT_OK)
        dnn_op_free(out);
    return rc;
}

int dnn_pack_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                    const struct dnn_op *conv, int arg)
{
    int rc = RETORT_OK;
    format_t plain = NO_FORMAT;
    TRY_DNNL(
        init4(&plain, shape->out, shape->in, shape->kernel, shape->kernel, dnnl_f32, dnnl_oihw));
    TRY(reorder_create(out, d, VIEW(plain), format_of(conv, arg)));
fail:
    format_free(&plain);
    return rc;
}

int dnn_unpack_create(struct dnn_op *out, const struct dnn *d, const struct dnn_conv *shape,
                      const struct dnn_op *conv, int arg)
{
    int rc = RETORT_OK;
    format_t plain = NO_FORMAT;
    TRY_DNNL(
        init4(&plain, shape->out, shape->in, shape->kernel, shape->kernel, dnnl_f32, dnnl_oihw));
    TRY(reorder_create(out, d, format_of(conv, arg), VIEW(plain)));
fail:
    format_free(&plain);
    return rc;
}

// ---- matrix product

int dnn_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const float *a, int lda,
             const float *b, int ldb, float beta, float *c, int ldc)
{
    int rc = RETORT_OK;
    TRY_DNNL(dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1.0F, a, lda, b,
                        ldb, beta, c, ldc));
fail:
    return rc;
}
