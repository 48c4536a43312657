#pragma once
// BatchNorm over planes of `lanes` channels a pixel, with ReLU or without: sums, output, gradient;
// of f32 or (narrow) bf16, which is computed with as f32.
//
//     y = factor (x - mean) + shift, through ReLU
//     dx = factor (dz - base - slope (x - mean)), where dz is dy where y > 0, else 0
//
// One pass each over the data. Backward finds again from x where the ReLU let through, by forward's
// own arithmetic: neither y nor a mask is read. 64 pixels are summed in f32, forward as distances
// from one of them, and what that gives in double: what the variance loses where the mean is m
// deviations from 0 is m² × 1e-16 of it, less than f32 itself loses up to m = 1e4. Sums are taken
// plane by plane, and planes are added in order: threads change no bit.

#include <stdbool.h>
#include <stddef.h>

struct norm_work {
    int threads;
    int count, planes, lanes; // samples, planes of each, channels of a plane
    size_t pixels;            // of a plane
    bool relu, narrow;
    const void *x;                                     // [count, planes, pixels, lanes]
    const float *mean, *factor, *shift, *base, *slope; // [planes × lanes] each
    double *partials;                                  // [norm_partials]: working memory
};
size_t norm_partials(const struct norm_work *w);
// first[c] = sum of x, second[c] = of x², c < channels <= planes × lanes.
void norm_moments(const struct norm_work *w, int channels, double *first, double *second);
void norm_apply(const struct norm_work *w, void *y); // y may be x
// first[c] = sum of dz, second[c] = of dz (x - mean).
void norm_gradient_sums(const struct norm_work *w, const void *dy, int channels, double *first,
                        double *second);
void norm_gradient(const struct norm_work *w, const void *dy, void *dx); // dx may be dy
