#include "models/cpu/pointwise.h"

#include "base/error.h"
#include "models/host/clones.h"

static const size_t GRAIN = 1024; // elements a thread takes at the least

// ---- ReLU

struct relu_work {
    const float *y;
    float *out;
};

HOST_CLONES static void relu_backward_range(const float *y, float *dy, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        dy[i] = y[i] > 0.0F ? dy[i] : 0.0F;
}

HOST_CLONES static void relu_forward_range(const float *x, float *y, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        y[i] = x[i] > 0.0F ? x[i] : 0.0F;
}

static void relu_backward_part(void *context, int part, size_t begin, size_t end)
{
    struct relu_work *w = context;
    (void)part;
    relu_backward_range(w->y, w->out, begin, end);
}

static void relu_forward_part(void *context, int part, size_t begin, size_t end)
{
    struct relu_work *w = context;
    (void)part;
    relu_forward_range(w->y, w->out, begin, end);
}

void relu_backward(const struct cpu_network *n, const float *y, float *dy, size_t count)
{
    struct relu_work w = {y, dy};
    host_parallel(n->engine->host.threads, count, GRAIN, relu_backward_part, &w);
}

static int relu_layer_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    struct relu_work w = {l->x != NULL ? l->x : n->pictures, l->y};
    host_parallel(n->engine->host.threads, (size_t)n->host.count * shape_elements(&l->out), GRAIN,
                  relu_forward_part, &w);
    return RETORT_OK;
}

static int relu_layer_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                               float *gradients)
{
    (void)k;
    (void)gradients;
    relu_backward(n, l->y, l->dy, (size_t)n->host.count * shape_elements(&l->out));
    return RETORT_OK;
}

const struct layer_ops RELU_LAYER = {.forward = relu_layer_forward,
                                     .backward = relu_layer_backward,
                                     .in_place = true,
                                     .in_place_forward = true,
                                     .in_place_evaluate = true};

// ---- sums of channels

HOST_CLONES static void add_plane(const float *dy, size_t pixels, int block, float *sums)
{
    for (size_t p = 0; p < pixels; p++)
        for (int c = 0; c < block; c++)
            sums[c] += dy[p * block + c];
}

void channel_sums(const struct cpu_network *n, const struct shape *s, int count, const float *dy,
                  float *sums)
{
    int block = n->engine->dnn.block, planes = s->padded / block;
    size_t pixels = (size_t)s->height * s->width;
    for (int c = 0; c < s->padded; c++)
        sums[c] = 0.0F;
    for (int i = 0; i < count * planes; i++)
        add_plane(dy + i * pixels * block, pixels, block, sums + i % planes * block);
}

// ---- average pool: planes of `lanes` values a pixel (a block of channels, or one)

struct pool_work {
    const struct layer *l;
    const float *from;
    float *to;
    int lanes;
};

HOST_CLONES static void pool_plane(const struct layer *l, int lanes, const float *x, float *y)
{
    int kernel = l->node->kernel;
    float share = 1.0F / (float)(kernel * kernel);
    for (int h = 0; h < l->out.height; h++)
        for (int w = 0; w < l->out.width; w++) {
            float *to = y + (h * l->out.width + w) * lanes;
            for (int c = 0; c < lanes; c++) {
                float sum = 0.0F;
                for (int i = 0; i < kernel * kernel; i++) {
                    int row = h * kernel + i / kernel, column = w * kernel + i % kernel;
                    sum += x[(row * l->in.width + column) * lanes + c];
                }
                to[c] = sum * share;
            }
        }
}

// Pixels no window reads get 0.
HOST_CLONES static void pool_plane_backward(const struct layer *l, int lanes, const float *dy,
                                            float *dx)
{
    int kernel = l->node->kernel;
    float share = 1.0F / (float)(kernel * kernel);
    for (int h = 0; h < l->in.height; h++)
        for (int w = 0; w < l->in.width; w++) {
            bool read = h / kernel < l->out.height && w / kernel < l->out.width;
            const float *from = dy + (h / kernel * l->out.width + w / kernel) * lanes;
            float *to = dx + (h * l->in.width + w) * lanes;
            for (int c = 0; c < lanes; c++)
                to[c] = read ? from[c] * share : 0.0F;
        }
}

static void pool_part(void *context, int part, size_t begin, size_t end)
{
    struct pool_work *w = context;
    size_t in = (size_t)w->l->in.height * w->l->in.width * w->lanes;
    size_t out = (size_t)w->l->out.height * w->l->out.width * w->lanes;
    (void)part;
    for (size_t i = begin; i < end; i++)
        pool_plane(w->l, w->lanes, w->from + i * in, w->to + i * out);
}

static void pool_backward_part(void *context, int part, size_t begin, size_t end)
{
    struct pool_work *w = context;
    size_t in = (size_t)w->l->in.height * w->l->in.width * w->lanes;
    size_t out = (size_t)w->l->out.height * w->l->out.width * w->lanes;
    (void)part;
    for (size_t i = begin; i < end; i++)
        pool_plane_backward(w->l, w->lanes, w->from + i * out, w->to + i * in);
}

static int pool_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    struct pool_work w = {l, l->x != NULL ? l->x : n->pictures, l->y, shape_lanes(n, &l->in)};
    host_parallel(n->engine->host.threads, (size_t)n->host.count * l->in.padded / w.lanes, 1,
                  pool_part, &w);
    return RETORT_OK;
}

static int pool_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                         float *gradients)
{
    (void)k;
    (void)gradients;
    struct pool_work w = {l, l->dy, l->dx, shape_lanes(n, &l->in)};
    if (l->dx != NULL)
        host_parallel(n->engine->host.threads, (size_t)n->host.count * l->in.padded / w.lanes, 1,
                      pool_backward_part, &w);
    return RETORT_OK;
}

const struct layer_ops POOL_LAYER = {.forward = pool_forward, .backward = pool_backward};

// ---- flattening: blocks to rows in (C, H, W) order, small wherever it stands

static size_t blocked_at(const struct shape *s, int block, int sample, int channel, int pixel)
{
    size_t area = (size_t)s->height * s->width;
    size_t plane = (size_t)sample * (s->padded / block) + channel / block;
    return (plane * area + pixel) * block + channel % block;
}

static int flatten_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    int block = n->engine->dnn.block, area = l->in.height * l->in.width;
    float *to = l->y;
    for (int i = 0; i < n->host.count; i++)
        for (int c = 0; c < l->in.channels; c++)
            for (int p = 0; p < area; p++)
                *to++ = l->x[blocked_at(&l->in, block, i, c, p)];
    return RETORT_OK;
}

// Gradients of padded channels are 0.
static int flatten_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                            float *gradients)
{
    (void)k;
    (void)gradients;
    int block = n->engine->dnn.block, area = l->in.height * l->in.width;
    for (int i = 0; i < n->host.count; i++)
        for (int c = 0; c < l->in.padded; c++)
            for (int p = 0; p < area; p++) {
                size_t at = ((size_t)i * l->in.channels + c) * area + p;
                l->dx[blocked_at(&l->in, block, i, c, p)] = c < l->in.channels ? l->dy[at] : 0.0F;
            }
    return RETORT_OK;
}

const struct layer_ops FLATTEN_LAYER = {.forward = flatten_forward, .backward = flatten_backward};
