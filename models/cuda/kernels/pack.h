#pragma once
// Weights between the arena's layout and the engine's.
//
// The arena holds a filter as [out, in, taps], f32; a linear layer's weights are that too, its taps
// being the pixels of what it reads. In memory it is [out', taps, in'] of the engine's type, out'
// and in' padded with zeros: channels innermost, as the activations are.

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "models/cuda/kernels/element.h"

#ifdef __cplusplus
extern "C" {
#endif

struct filter {
    uint64_t arena;  // element of the arena where it begins
    uint64_t packed; // element of the packed weights where it begins
    uint32_t out, in, taps;
};
static inline size_t filter_packed_count(const struct filter *f)
{
    return (size_t)channels_padded((int)f->out) * f->taps * (size_t)channels_padded((int)f->in);
}

// One block's share: `count` packed elements from `first` on, of filters[filter].
struct pack_piece {
    uint32_t filter, count;
    uint64_t first;
};
// Cuts all filters into pieces[] (host memory; NULL: counts only); returns how many.
size_t pack_pieces(const struct filter *filters, int count, struct pack_piece *pieces);
// Packs all that the pieces cover. filters and pieces: device memory.
cudaError_t pack_launch(void *packed, const float *arena, const struct filter *filters,
                        const struct pack_piece *pieces, size_t piece_count, enum element_type type,
                        cudaStream_t stream);
// gradients[arena + i] = the filter's gradient from its packed form; padding is left out.
cudaError_t unpack_launch(float *gradients, const void *packed, const struct filter *filter,
                          enum element_type type, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
