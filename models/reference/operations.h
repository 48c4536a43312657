#pragma once
// Each operation of a layer graph, forward and backward, as its formula says.
//
// Everything is double, in (N, C, H, W) order. In backward, dx += (a value may be read by several
// nodes; NULL: not wanted), gradients of parameters are =.

#include <stddef.h>

// ---- convolution: y[n, o, i, j] = b[o] + sum w[o, c, k, l] x[n, c, i s + k - p, j s + l - p]
struct conv_shape {
    int count, in, in_height, in_width;
    int out, out_height, out_width;
    int kernel, stride, padding;
};
void conv_forward(const struct conv_shape *s, const double *x, const double *w, const double *b,
                  double *y); // b may be NULL
void conv_backward(const struct conv_shape *s, const double *x, const double *w, const double *dy,
                   double *dx, double *dw, double *db); // db may be NULL

// ---- batch normalisation [Ioffe & Szegedy 2015]: y = gamma (x - mean) / sqrt(variance + eps) +
// beta
extern const double BATCHNORM_EPSILON;
// Over (N, H, W) of each channel of [count, channels, area]: sum x, and then, as rounding wants it,
// sum (x - mean)^2. Over all that is normalised together, divided by their number, these are the
// mean and the biased variance.
void batchnorm_sum(int count, int channels, int area, const double *x, double *sum);
void batchnorm_squares(int count, int channels, int area, const double *x, const double *mean,
                       double *squares);
void batchnorm_forward(int count, int channels, int area, const double *x, const double *gamma,
                       const double *beta, const double *mean, const double *variance, double *y);
// What this part of a batch adds to dgamma and dbeta (=).
void batchnorm_backward_sums(int count, int channels, int area, const double *x, const double *mean,
                             const double *variance, const double *dy, double *dgamma,
                             double *dbeta);
// mean, variance, dgamma and dbeta are of all `values` numbers a channel that were normalised
// together: the gradient flows through the statistics.
void batchnorm_backward(int count, int channels, int area, const double *x, const double *gamma,
                        const double *mean, const double *variance, const double *dy, double values,
                        const double *dgamma, const double *dbeta, double *dx);

// ---- activation, element by element; `kind` is an enum activation_kind
void activation_forward(int kind, size_t elements, const double *x, double *y);
void activation_backward(int kind, size_t elements, const double *x, const double *dy, double *dx);

// ---- average pooling: kernel × kernel windows side by side
struct pool_shape {
    int planes; // count × channels
    int in_height, in_width, out_height, out_width, kernel;
};
void avgpool_forward(const struct pool_shape *s, const double *x, double *y);
void avgpool_backward(const struct pool_shape *s, const double *dy, double *dx);

// ---- linear: y[n, o] = b[o] + sum w[o, i] x[n, i]
void linear_forward(int count, int in, int out, const double *x, const double *w, const double *b,
                    double *y);
void linear_backward(int count, int in, int out, const double *x, const double *w, const double *dy,
                     double *dx, double *dw, double *db);
