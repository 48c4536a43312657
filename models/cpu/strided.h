#pragma once
// 3×3 convolution of stride 2 and few channels, directly (AVX-512).
//
// oneDNN works on whole blocks of 16 channels on both sides; here sums run over the channels there
// are, and a group of pixels keeps its sums in registers over all taps. Activations are nChw16c,
// padding 1. Same threads, same bits.

#include <stdbool.h>
#include <stddef.h>

enum { STRIDED_LANES = 16, STRIDED_IN_BLOCKS = 2, STRIDED_OUT_BLOCKS = 3 };

struct strided {
    int in, out;               // channels
    int in_height, in_width;   // of the input
    int out_height, out_width; // (in + 1) / 2
};

// Whether this build and processor have it for such a layer.
bool strided_available(const struct strided *s);
// Elements of arranged weights, whichever way they are turned.
size_t strided_weight_count(const struct strided *s);
// From plain weights [out, in, 3, 3]: [3, 3, in, blocks of out, 16] for the forward pass; turned:
// [3, 3, out, blocks of in, 16] for the data gradient.
void strided_arrange_weights(const struct strided *s, const float *weights, bool turned,
                             float *arranged);
// y = x * weights (+ bias) (ReLU); bias [blocks of out], may be NULL.
void strided_forward(const struct strided *s, int threads, int count, const float *x,
                     const float *arranged, const float *bias, bool relu, float *y);
void strided_backward_data(const struct strided *s, int threads, int count, const float *dy,
                           const float *turned, float *dx);
// gradient [out, in, 3, 3] = of the weights; scratch: 64-byte aligned.
size_t strided_scratch_bytes(const struct strided *s, int threads);
void strided_backward_weights(const struct strided *s, int threads, int count, const float *x,
                              const float *dy, float *gradient, void *scratch);
