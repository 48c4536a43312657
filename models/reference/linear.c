#include "models/reference/operations.h"

#include <string.h>

void linear_forward(int count, int in, int out, const double *x, const double *w, const double *b,
                    double *y)
{
    for (int n = 0; n < count; n++)
        for (int o = 0; o < out; o++) {
            double sum = b[o];
            for (int i = 0; i < in; i++)
                sum += w[(size_t)o * in + i] * x[(size_t)n * in + i];
            y[(size_t)n * out + o] = sum;
        }
}

void linear_backward(int count, int in, int out, const double *x, const double *w, const double *dy,
                     double *dx, double *dw, double *db)
{
    memset(dw, 0, (size_t)out * in * sizeof(*dw));
    memset(db, 0, (size_t)out * sizeof(*db));
    for (int n = 0; n < count; n++)
        for (int o = 0; o < out; o++) {
            double g = dy[(size_t)n * out + o];
            db[o] += g;
            for (int i = 0; i < in; i++) {
                dw[(size_t)o * in + i] += g * x[(size_t)n * in + i];
                if (dx != NULL)
                    dx[(size_t)n * in + i] += g * w[(size_t)o * in + i];
            }
        }
}
