#include "models/reference/operations.h"

#include <math.h>

const double BATCHNORM_EPSILON = 1e-5;

void batchnorm_sum(int count, int channels, int area, const double *x, double *sum)
{
    for (int c = 0; c < channels; c++) {
        sum[c] = 0.0;
        for (int n = 0; n < count; n++)
            for (int i = 0; i < area; i++)
                sum[c] += x[((size_t)n * channels + c) * area + i];
    }
}

void batchnorm_squares(int count, int channels, int area, const double *x, const double *mean,
                       double *squares)
{
    for (int c = 0; c < channels; c++) {
        squares[c] = 0.0;
        for (int n = 0; n < count; n++)
            for (int i = 0; i < area; i++) {
                double d = x[((size_t)n * channels + c) * area + i] - mean[c];
                squares[c] += d * d;
            }
    }
}

void batchnorm_forward(int count, int channels, int area, const double *x, const double *gamma,
                       const double *beta, const double *mean, const double *variance, double *y)
{
    for (int n = 0; n < count; n++)
        for (int c = 0; c < channels; c++) {
            double scale = gamma[c] / sqrt(variance[c] + BATCHNORM_EPSILON);
            for (int i = 0; i < area; i++) {
                size_t at = ((size_t)n * channels + c) * area + i;
                y[at] = (x[at] - mean[c]) * scale + beta[c];
            }
        }
}

// With h = (x - mean) / s, s = sqrt(variance + eps):
//     dgamma = sum dy h;  dbeta = sum dy;  dx = gamma / s (dy - mean(dy) - h mean(dy h))
void batchnorm_backward_sums(int count, int channels, int area, const double *x, const double *mean,
                             const double *variance, const double *dy, double *dgamma,
                             double *dbeta)
{
    for (int c = 0; c < channels; c++) {
        double inverse = 1.0 / sqrt(variance[c] + BATCHNORM_EPSILON);
        dgamma[c] = 0.0;
        dbeta[c] = 0.0;
        for (int n = 0; n < count; n++)
            for (int i = 0; i < area; i++) {
                size_t at = ((size_t)n * channels + c) * area + i;
                dgamma[c] += dy[at] * (x[at] - mean[c]) * inverse;
                dbeta[c] += dy[at];
            }
    }
}

void batchnorm_backward(int count, int channels, int area, const double *x, const double *gamma,
                        const double *mean, const double *variance, const double *dy, double values,
                        const double *dgamma, const double *dbeta, double *dx)
{
    if (dx == NULL)
        return;
    for (int c = 0; c < channels; c++) {
        double inverse = 1.0 / sqrt(variance[c] + BATCHNORM_EPSILON);
        for (int n = 0; n < count; n++)
            for (int i = 0; i < area; i++) {
                size_t at = ((size_t)n * channels + c) * area + i;
                double h = (x[at] - mean[c]) * inverse;
                dx[at] +=
                    gamma[c] * inverse * (dy[at] - dbeta[c] / values - h * dgamma[c] / values);
            }
    }
}
