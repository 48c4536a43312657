#include "models/reference/operations.h"

#include <string.h>

// The taps of the window at output (i, j) that lie on the picture: rows [top, bottom) and columns
// [left, right) of the kernel; tap (k, l) is over pixel (y + k, x + l).
struct window {
    int y, x, top, bottom, left, right;
};

static struct window window_at(const struct conv_shape *s, int i, int j)
{
    struct window v = {.y = i * s->stride - s->padding, .x = j * s->stride - s->padding};
    v.top = v.y < 0 ? -v.y : 0;
    v.left = v.x < 0 ? -v.x : 0;
    v.bottom = v.y + s->kernel > s->in_height ? s->in_height - v.y : s->kernel;
    v.right = v.x + s->kernel > s->in_width ? s->in_width - v.x : s->kernel;
    return v;
}

// One kernel [kernel, kernel] over one plane of the picture.
static double window_dot(const struct conv_shape *s, struct window v, const double *x,
                         const double *w)
{
    double sum = 0.0;
    for (int k = v.top; k < v.bottom; k++)
        for (int l = v.left; l < v.right; l++)
            sum += w[k * s->kernel + l] * x[(v.y + k) * s->in_width + v.x + l];
    return sum;
}

// plane += dy × kernel: what the output's gradient says of the pixels below.
static void window_spread(const struct conv_shape *s, struct window v, double dy, const double *w,
                          double *dx)
{
    for (int k = v.top; k < v.bottom; k++)
        for (int l = v.left; l < v.right; l++)
            dx[(v.y + k) * s->in_width + v.x + l] += dy * w[k * s->kernel + l];
}

// kernel += dy × pixels.
static void window_gather(const struct conv_shape *s, struct window v, double dy, const double *x,
                          double *dw)
{
    for (int k = v.top; k < v.bottom; k++)
        for (int l = v.left; l < v.right; l++)
            dw[k * s->kernel + l] += dy * x[(v.y + k) * s->in_width + v.x + l];
}

void conv_forward(const struct conv_shape *s, const double *x, const double *w, const double *b,
                  double *y)
{
    size_t plane = (size_t)s->in_height * s->in_width, taps = (size_t)s->kernel * s->kernel;
    for (int n = 0; n < s->count; n++, x += s->in * plane)
        for (int o = 0; o < s->out; o++)
            for (int i = 0; i < s->out_height; i++)
                for (int j = 0; j < s->out_width; j++) {
                    struct window v = window_at(s, i, j);
                    double sum = b != NULL ? b[o] : 0.0;
                    for (int c = 0; c < s->in; c++)
                        sum += window_dot(s, v, x + c * plane, w + ((size_t)o * s->in + c) * taps);
                    *y++ = sum;
                }
}

void conv_backward(const struct conv_shape *s, const double *x, const double *w, const double *dy,
                   double *dx, double *dw, double *db)
{
    size_t plane = (size_t)s->in_height * s->in_width, taps = (size_t)s->kernel * s->kernel;
    memset(dw, 0, s->out * s->in * taps * sizeof(*dw));
    if (db != NULL)
        memset(db, 0, (size_t)s->out * sizeof(*db));
    for (int n = 0; n < s->count; n++, x += s->in * plane, dx += dx != NULL ? s->in * plane : 0)
        for (int o = 0; o < s->out; o++)
            for (int i = 0; i < s->out_height; i++)
                for (int j = 0; j < s->out_width; j++, dy++) {
                    struct window v = window_at(s, i, j);
                    if (db != NULL)
                        db[o] += *dy;
                    for (int c = 0; c < s->in; c++) {
                        size_t kernel = ((size_t)o * s->in + c) * taps;
                        window_gather(s, v, *dy, x + c * plane, dw + kernel);
                        if (dx != NULL)
                            window_spread(s, v, *dy, w + kernel, dx + c * plane);
                    }
                }
}
