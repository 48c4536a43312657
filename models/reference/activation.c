#include "models/reference/operations.h"

#include "base/error.h"
#include "base/recipe.h"

void activation_forward(int kind, size_t elements, const double *x, double *y)
{
    CHECK(kind == ACTIVATION_RELU);
    for (size_t i = 0; i < elements; i++)
        y[i] = x[i] < 0.0 ? 0.0 : x[i]; // NaN stays NaN: divergence must not hide
}

void activation_backward(int kind, size_t elements, const double *x, const double *dy, double *dx)
{
    CHECK(kind == ACTIVATION_RELU);
    if (dx == NULL)
        return;
    for (size_t i = 0; i < elements; i++)
        dx[i] += x[i] > 0.0 ? dy[i] : 0.0;
}
