#include "models/cpu/pointwise.h"

#include "base/error.h"
#include "models/cpu/element.h"
#include "models/host/clones.h"

static const size_t GRAIN = 1024; // elements a thread takes at the least

// ---- ReLU

struct relu_work {
    const void *from; // x, or y
    void *to;         // y, or dy
    bool narrow;
};

#define KERNEL static inline __attribute__((always_inline)) void

KERNEL relu_forward_range(const struct relu_work *w, size_t begin, size_t end, bool narrow)
{
    for (size_t i = begin; i < end; i++) {
        float x = element_get(w->from, i, narrow);
        element_put(w->to, i, x > 0.0F ? x : 0.0F, narrow);
    }
}

KERNEL relu_backward_range(const struct relu_work *w, size_t begin, size_t end, bool narrow)
{
    for (size_t i = begin; i < end; i++) {
        float dy = element_get(w->to, i, narrow);
        element_put(w->to, i, element_get(w->from, i, narrow) > 0.0F ? dy : 0.0F, narrow);
    }
}

// A kernel for either type, and as host_parallel calls it.
#define BY_TYPE(name, work)                                                                        \
    HOST_CLONES static void name##_typed(const struct work *w, size_t begin, size_t end)           \
    {                                                                                              \
        if (w->narrow)                                                                             \
            name##_range(w, begin, end, true);                                                     \
        else                                                                                       \
            name##_range(w, begin, end, false);                                                    \
    }                                                                                              \
    static void name##_part(void *context, int part, size_t begin, size_t end)                     \
    {                                                                                              \
        (void)part;                                                                                \
        name##_typed(context, begin, end);                                                         \
    }
BY_TYPE(relu_forward, relu_work)
BY_TYPE(relu_backward, relu_work)

static size_t output_elements(const struct cpu_network *n, const struct layer *l)
{
    return (size_t)n->host.count * shape_elements(&l->out);
}

void relu_backward(const struct cpu_network *n, const struct layer *l)
{
    struct relu_work w = {l->y, l->dy, l->out.narrow};
    host_parallel(n->engine->host.threads, output_elements(n, l), GRAIN, relu_backward_part, &w);
}

static int relu_layer_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    struct relu_work w = {l->x != NULL ? l->x : n->pictures, l->y, l->out.narrow};
    host_parallel(n->engine->host.threads, output_elements(n, l), GRAIN, relu_forward_part, &w);
    return RETORT_OK;
}

static int relu_layer_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                               float *gradients)
{
    (void)k;
    (void)gradients;
    relu_backward(n, l);
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
    const void *from;
    void *to;
    int lanes;
    bool narrow;
};

KERNEL pool_plane(const struct pool_work *pool, size_t x, size_t y, bool narrow)
{
    const struct layer *l = pool->l;
    int kernel = l->node->kernel, lanes = pool->lanes;
    float share = 1.0F / (float)(kernel * kernel);
    for (int h = 0; h < l->out.height; h++)
        for (int w = 0; w < l->out.width; w++)
            for (int c = 0; c < lanes; c++) {
                float sum = 0.0F;
                for (int i = 0; i < kernel * kernel; i++) {
                    int row = h * kernel + i / kernel, column = w * kernel + i % kernel;
                    size_t at = x + (size_t)(row * l->in.width + column) * lanes + c;
                    sum += element_get(pool->from, at, narrow);
                }
                element_put(pool->to, y + (size_t)(h * l->out.width + w) * lanes + c, sum * share,
                            narrow);
            }
}

// Pixels no window reads get 0.
KERNEL pool_plane_backward(const struct pool_work *pool, size_t dx, size_t dy, bool narrow)
{
    const struct layer *l = pool->l;
    int kernel = l->node->kernel, lanes = pool->lanes;
    float share = 1.0F / (float)(kernel * kernel);
    for (int h = 0; h < l->in.height; h++)
        for (int w = 0; w < l->in.width; w++) {
            bool read = h / kernel < l->out.height && w / kernel < l->out.width;
            size_t from = dy + (size_t)(h / kernel * l->out.width + w / kernel) * lanes;
            size_t to = dx + (size_t)(h * l->in.width + w) * lanes;
            for (int c = 0; c < lanes; c++)
                element_put(pool->to, to + c,
                            read ? element_get(pool->from, from + c, narrow) * share : 0.0F,
                            narrow);
        }
}

static size_t plane_elements(const struct pool_work *w, const struct shape *s)
{
    return (size_t)s->height * s->width * w->lanes;
}

KERNEL pool_range(const struct pool_work *w, size_t begin, size_t end, bool narrow)
{
    for (size_t i = begin; i < end; i++)
        pool_plane(w, i * plane_elements(w, &w->l->in), i * plane_elements(w, &w->l->out), narrow);
}

KERNEL pool_backward_range(const struct pool_work *w, size_t begin, size_t end, bool narrow)
{
    for (size_t i = begin; i < end; i++)
        pool_plane_backward(w, i * plane_elements(w, &w->l->in), i * plane_elements(w, &w->l->out),
                            narrow);
}
BY_TYPE(pool, pool_work)
BY_TYPE(pool_backward, pool_work)

static int pool_layer_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    struct pool_work w = {l, l->x != NULL ? l->x : n->pictures, l->y, shape_lanes(n, &l->in),
                          l->in.narrow};
    host_parallel(n->engine->host.threads, (size_t)n->host.count * l->in.padded / w.lanes, 1,
                  pool_part, &w);
    return RETORT_OK;
}

static int pool_layer_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                               float *gradients)
{
    (void)k;
    (void)gradients;
    struct pool_work w = {l, l->dy, l->dx, shape_lanes(n, &l->in), l->in.narrow};
    if (l->dx != NULL)
        host_parallel(n->engine->host.threads, (size_t)n->host.count * l->in.padded / w.lanes, 1,
                      pool_backward_part, &w);
    return RETORT_OK;
}

const struct layer_ops POOL_LAYER = {.forward = pool_layer_forward,
                                     .backward = pool_layer_backward};
