#pragma once
// Convolution of few channels by Winograd's F(4×4, 3×3), a few tiles at a time (AVX-512).
//
//     Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A                            [Lavin & Gray, CVPR 2016]
//     dg = Gᵀ [(A dY Aᵀ) ⊙ (Bᵀ d B)] G                          its transpose, for the weights
//
// oneDNN transforms a whole batch to memory and back, which costs more than the products when there
// are 12 or 24 channels. Here a handful of tiles stays in the caches between the three steps, and
// products run over the channels there are, not over whole blocks. Activations are nChw16c, 3×3,
// stride 1, padding 1. The data gradient is the forward pass with turned weights. Same threads,
// same bits.

#include <stdbool.h>
#include <stddef.h>

enum { WINOGRAD_LANES = 16, WINOGRAD_MAX_BLOCKS = 2, WINOGRAD_POINTS = 36 };

struct winograd {
    int in, out;       // channels
    int height, width; // of input and output
};

// Whether this build and processor have it for such a layer.
bool winograd_available(const struct winograd *w);
// Elements of transformed weights.
size_t winograd_weight_count(const struct winograd *w);
// From plain weights [out, in, 3, 3]; turned: for the data gradient, where w->in and w->out have
// changed places while the weights stay as they are.
void winograd_transform_weights(const struct winograd *w, const float *weights, bool turned,
                                float *transformed);
// Bytes of working memory for `threads` threads: forward, and the weights' gradient.
size_t winograd_scratch_bytes(const struct winograd *w, int threads, bool for_weights);
// y = x * weights (+ bias) (ReLU); bias [blocks of out], may be NULL.
void winograd_forward(const struct winograd *w, int threads, int count, const float *x,
                      const float *transformed, const float *bias, bool relu, float *y,
                      void *scratch);
// gradient [out, in, 3, 3] = of the weights.
void winograd_backward_weights(const struct winograd *w, int threads, int count, const float *x,
                               const float *dy, float *gradient, void *scratch);
