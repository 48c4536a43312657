// Activations from one layout and type to another: pictures to what a narrow device's convolutions
// read, blocks to rows in (C, H, W) order, narrow logits to f32.

#include <string.h>

#include "base/error.h"
#include "models/cpu/element.h"
#include "models/cpu/network.h"
#include "models/host/clones.h"

// Samples of [channels / lanes, pixels, lanes] each; rows have one lane and as many pixels as what
// they were made of.
struct side {
    char *data;
    int lanes;
    size_t sample; // elements
    bool narrow;
};

struct layout_work {
    struct side from, to;
    int channels;
    size_t pixels;
};

// One channel of one sample.
struct line {
    const char *from;
    char *to;
    size_t from_step, to_step, count; // steps in elements
};

static inline __attribute__((always_inline)) void copy_elements(const struct line *l, bool from,
                                                                bool to)
{
    for (size_t i = 0; i < l->count; i++)
        element_put(l->to, i * l->to_step, element_get(l->from, i * l->from_step, from), to);
}

HOST_CLONES static void copy_line(const struct line *l, bool from, bool to)
{
    if (from && to)
        copy_elements(l, true, true);
    else if (from)
        copy_elements(l, true, false);
    else if (to)
        copy_elements(l, false, true);
    else
        copy_elements(l, false, false);
}

static char *side_at(const struct side *s, size_t sample, int channel, size_t pixels)
{
    size_t plane = (size_t)(channel / s->lanes) * pixels * s->lanes;
    return s->data + (sample * s->sample + plane + channel % s->lanes) * element_bytes(s->narrow);
}

// What is padding becomes 0.
static void layout_part(void *context, int part, size_t begin, size_t end)
{
    const struct layout_work *w = context;
    const struct side *from = &w->from, *to = &w->to;
    (void)part;
    for (size_t i = begin; i < end; i++) {
        if (to->sample != w->channels * w->pixels)
            memset(side_at(to, i, 0, w->pixels), 0, to->sample * element_bytes(to->narrow));
        for (int c = 0; c < w->channels; c++) {
            struct line line = {side_at(from, i, c, w->pixels), side_at(to, i, c, w->pixels),
                                (size_t)from->lanes, (size_t)to->lanes, w->pixels};
            copy_line(&line, from->narrow, to->narrow);
        }
    }
}

// `shape` is l->in or l->out. Both sides are gone through in the channels and pixels of the one
// that has more pixels: the other one's are its rows.
static struct side side_of(const struct cpu_network *n, const struct layer *l,
                           const struct shape *shape, const void *data, bool narrow)
{
    bool rows = shape->height * shape->width < l->in.height * l->in.width;
    return (struct side){.data = (char *)(uintptr_t)data,
                         .lanes = rows ? 1 : shape_lanes(n, shape),
                         .sample = shape_elements(shape),
                         .narrow = narrow};
}

static void run(const struct cpu_network *n, const struct layer *l, struct side from,
                struct side to)
{
    struct layout_work w = {from, to, l->in.channels, (size_t)l->in.height * l->in.width};
    host_parallel(n->engine->host.threads, (size_t)n->host.count, 1, layout_part, &w);
}

static int layout_forward(struct cpu_network *n, struct layer *l, struct kernels *k)
{
    (void)k;
    run(n, l, side_of(n, l, &l->in, l->x != NULL ? l->x : n->pictures, l->in.narrow),
        side_of(n, l, &l->out, l->y, l->out.narrow));
    return RETORT_OK;
}

static int layout_backward(struct cpu_network *n, struct layer *l, struct kernels *k,
                           float *gradients)
{
    (void)k;
    (void)gradients;
    if (l->dx != NULL)
        run(n, l, side_of(n, l, &l->out, l->dy, gradient_is_narrow(n, &l->out)),
            side_of(n, l, &l->in, l->dx, gradient_is_narrow(n, &l->in)));
    return RETORT_OK;
}

const struct layer_ops LAYOUT_LAYER = {.forward = layout_forward, .backward = layout_backward};
