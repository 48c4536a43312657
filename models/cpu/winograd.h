#pragma once
// 3×3 convolution by Winograd's F(4×4, 3×3), a few tiles at a time (AVX-512, AVX2).
//
//     Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A                            [Lavin & Gray, CVPR 2016]
//     dg = Gᵀ [(A dY Aᵀ) ⊙ (Bᵀ d B)] G                          its transpose, for the weights
//
// oneDNN transforms a whole batch to memory and back, which costs more than the products when there
// are 12 or 24 channels, and does it for AVX-512 alone. Here a handful of tiles stays in the caches
// between the three steps, and products run over the channels there are, not over whole blocks.
// Activations are nChw16c or nChw8c, stride 1, padding 1. The data gradient is the forward pass
// with turned weights. Same threads, same bits.

#include <stdbool.h>
#include <stddef.h>

struct winograd {
    int in, out;       // channels
    int height, width; // of input and output
};

// The kernels for one instruction set: blocks are of so many channels as its vectors have floats.
struct winograd_kernels {
    // Elements of transformed weights.
    size_t (*weight_count)(const struct winograd *w);
    // From plain weights [out, in, 3, 3]; turned: for the data gradient, where w->in and w->out
    // have changed places while the weights stay as they are.
    void (*transform_weights)(const struct winograd *w, const float *weights, bool turned,
                              float *transformed);
    // Bytes of working memory for `threads` threads: forward, and the weights' gradient.
    size_t (*scratch_bytes)(const struct winograd *w, int threads, bool for_weights);
    // y = x * weights (+ bias) (ReLU); bias [blocks of out], may be NULL.
    void (*forward)(const struct winograd *w, int threads, int count, const float *x,
                    const float *transformed, const float *bias, bool relu, float *y,
                    void *scratch);
    // gradient [out, in, 3, 3] = of the weights.
    void (*backward_weights)(const struct winograd *w, int threads, int count, const float *x,
                             const float *dy, float *gradient, void *scratch);
};
extern const struct winograd_kernels WINOGRAD_AVX512, WINOGRAD_AVX2; // on x86-64
