#pragma once
// The optimizer's step, the running statistics and the EMA in one pass over the arena.
//
// Every element is read once and written once, by the arithmetic of base/arith/optimizer.h: the
// bits are the host engines'. Where gradients are scaled and one is not finite, nothing is written.
// The arena is cut into pieces that are treated alike, one a block. A rank that owns a range of the
// arena cuts that range, and keeps moments and EMA of it alone.

#include <cuda_runtime_api.h>

#include "models/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum update_treatment {
    UPDATE_DECAYED, // the optimizer, with weight decay
    UPDATE_PLAIN,   // the optimizer, without
    UPDATE_RUNNING, // a running statistic: by its momentum towards the gradient arena's
};

struct update_piece {
    uint64_t begin; // element of the arena
    uint32_t count, treatment;
};

// Cuts [begin, end) of the graph's arena, in order, into pieces[] (host memory; NULL: counts only).
// Returns how many they are.
size_t update_pieces(const struct graph *g, size_t begin, size_t end, struct update_piece *pieces);

// Queues the update of all that the pieces cover, which must be within the arenas' range. Pieces,
// arenas (f32, as struct arenas says) and scalars are device memory; the scalars are read when the
// work runs.
cudaError_t update_launch(const struct update_piece *pieces, size_t count,
                          const struct arenas *arenas, const struct optimizer_spec *spec,
                          const struct step_scalars *scalars, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
