// Resizing: the second half of data/picture.h.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "data/picture.h"

// For each of `size` outputs along one axis: the first input it draws on, how many, their weights.
struct axis {
    int width;      // weights per output
    int *first;     // [size]
    float *weights; // [size, width], each row sums to 1
};

static void axis_free(struct axis *a)
{
    free(a->first);
    free(a->weights);
}

// The outputs are the middle `size` of the axis of `input` points scaled by 1 / scale.
static int axis_init(struct axis *a, int input, int size, double scale)
{
    double support = scale > 1 ? scale : 1;
    double origin = ((double)input - scale * size) / 2;
    a->width = (int)ceil(2 * support) + 1;
    if (a->width > input)
        a->width = input;
    a->first = calloc((size_t)size, sizeof *a->first);
    a->weights = calloc((size_t)size * (size_t)a->width, sizeof *a->weights);
    if (!a->first || !a->weights)
        return RETORT_MEMORY;
    for (int i = 0; i < size; i++) {
        double centre = origin + (i + 0.5) * scale;
        int first = (int)floor(centre - support);
        if (first > input - a->width)
            first = input - a->width;
        if (first < 0)
            first = 0;
        float *w = a->weights + (size_t)i * (size_t)a->width;
        double sum = 0;
        for (int k = 0; k < a->width; k++) {
            double distance = fabs(first + k + 0.5 - centre) / support;
            w[k] = distance < 1 ? (float)(1 - distance) : 0.0F;
            sum += (double)w[k];
        }
        for (int k = 0; k < a->width; k++)
            w[k] = (float)((double)w[k] / sum);
        a->first[i] = first;
    }
    return RETORT_OK;
}

static uint8_t to_byte(float value)
{
    return value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)(value + 0.5F);
}

// Of the input, what any output draws on.
static int axis_begin(const struct axis *a)
{
    return a->first[0];
}

static int axis_end(const struct axis *a, int size)
{
    return a->first[size - 1] + a->width;
}

// Columns first, for every input row from `begin` to `end`, into rows[end - begin, size, 3]; then
// rows.
static void resample(const struct picture *p, int size, const struct axis *x, const struct axis *y,
                     float *rows, uint8_t *out)
{
    const int begin = axis_begin(y), end = axis_end(y, size);
    for (int i = 0; i < end - begin; i++)
        for (int j = 0; j < size; j++) {
            const uint8_t *from =
                p->pixels + ((size_t)(begin + i) * (size_t)p->width + (size_t)x->first[j]) * 3;
            const float *w = x->weights + (size_t)j * (size_t)x->width;
            float sum[3] = {0, 0, 0};
            for (int k = 0; k < x->width; k++)
                for (int c = 0; c < 3; c++)
                    sum[c] += w[k] * from[3 * k + c];
            for (int c = 0; c < 3; c++)
                rows[((size_t)i * (size_t)size + j) * 3 + c] = sum[c];
        }
    const size_t row = (size_t)size * 3;
    for (int i = 0; i < size; i++)
        for (size_t j = 0; j < row; j++) {
            const float *w = y->weights + (size_t)i * (size_t)y->width;
            float sum = 0;
            for (int k = 0; k < y->width; k++)
                sum += w[k] * rows[(size_t)(y->first[i] - begin + k) * row + j];
            out[(size_t)i * row + j] = to_byte(sum);
        }
}

int picture_resize(const struct picture *p, int size, uint8_t *out, char why[PICTURE_WHY])
{
    int shortest = p->height < p->width ? p->height : p->width;
    double scale = (double)shortest / size;
    struct axis x = {0}, y = {0};
    float *rows = NULL;
    int rc = axis_init(&x, p->width, size, scale);
    if (rc == RETORT_OK)
        rc = axis_init(&y, p->height, size, scale);
    if (rc == RETORT_OK) {
        // A long narrow picture has many rows, of which the middle is taken.
        size_t count = (size_t)(axis_end(&y, size) - axis_begin(&y));
        rows = malloc(count * (size_t)size * 3 * sizeof *rows);
        rc = rows ? RETORT_OK : RETORT_MEMORY;
    }
    if (rc == RETORT_OK)
        resample(p, size, &x, &y, rows, out);
    else
        snprintf(why, PICTURE_WHY, "out of memory");
    axis_free(&x);
    axis_free(&y);
    free(rows);
    return rc;
}
