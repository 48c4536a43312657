#include "models/reference/operations.h"

// Where window (i, j) of a plane begins.
static size_t corner(const struct pool_shape *s, int plane, int i, int j)
{
    return ((size_t)plane * s->in_height + i * s->kernel) * s->in_width + j * s->kernel;
}

void avgpool_forward(const struct pool_shape *s, const double *x, double *y)
{
    double share = 1.0 / (s->kernel * s->kernel);
    for (int p = 0; p < s->planes; p++)
        for (int i = 0; i < s->out_height; i++)
            for (int j = 0; j < s->out_width; j++) {
                const double *window = x + corner(s, p, i, j);
                double sum = 0.0;
                for (int k = 0; k < s->kernel; k++)
                    for (int l = 0; l < s->kernel; l++)
                        sum += window[k * s->in_width + l];
                *y++ = sum * share;
            }
}

void avgpool_backward(const struct pool_shape *s, const double *dy, double *dx)
{
    double share = 1.0 / (s->kernel * s->kernel);
    if (dx == NULL)
        return;
    for (int p = 0; p < s->planes; p++)
        for (int i = 0; i < s->out_height; i++)
            for (int j = 0; j < s->out_width; j++, dy++) {
                double *window = dx + corner(s, p, i, j);
                for (int k = 0; k < s->kernel; k++)
                    for (int l = 0; l < s->kernel; l++)
                        window[k * s->in_width + l] += *dy * share;
            }
}
