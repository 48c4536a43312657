#pragma once
// 3×3 convolution of stride 2, directly (AVX-512, AVX2).
//
// oneDNN works on whole blocks of channels on both sides; here sums run over the channels there
// are, and a group of pixels keeps its sums in registers over all taps. Activations are nChw16c or
// nChw8c, padding 1. Same threads, same bits.

#include <stdbool.h>
#include <stddef.h>

struct strided {
    int in, out;               // channels
    int in_height, in_width;   // of the input
    int out_height, out_width; // (in + 1) / 2
};

// The kernels for one instruction set: blocks are of so many channels as its vectors have floats.
struct strided_kernels {
    // Elements of arranged weights, whichever way they are turned.
    size_t (*weight_count)(const struct strided *s);
    // From plain weights [out, in, 3, 3]; turned: for the data gradient.
    void (*arrange_weights)(const struct strided *s, const float *weights, bool turned,
                            float *arranged);
    // y = x * weights (+ bias) (ReLU); bias [blocks of out], may be NULL.
    void (*forward)(const struct strided *s, int threads, int count, const float *x,
                    const float *arranged, const float *bias, bool relu, float *y);
    void (*backward_data)(const struct strided *s, int threads, int count, const float *dy,
                          const float *turned, float *dx);
    // gradient [out, in, 3, 3] = of the weights; scratch: 64-byte aligned.
    size_t (*scratch_bytes)(const struct strided *s, int threads);
    void (*backward_weights)(const struct strided *s, int threads, int count, const float *x,
                             const float *dy, float *gradient, void *scratch);
};
extern const struct strided_kernels STRIDED_AVX512, STRIDED_AVX2; // on x86-64
