#include "models/cuda/kernels/pack.h"

enum { PIECE_MAX = 1024 }; // elements: enough for a block, and blocks enough for a GPU

size_t pack_pieces(const struct filter *filters, int count, struct pack_piece *pieces)
{
    size_t made = 0;
    for (int i = 0; i < count; i++) {
        size_t total = filter_packed_count(&filters[i]);
        for (size_t first = 0; first < total; first += PIECE_MAX) {
            size_t left = total - first;
            if (pieces != NULL)
                pieces[made] =
                    (struct pack_piece){.filter = (uint32_t)i,
                                        .count = (uint32_t)(left < PIECE_MAX ? left : PIECE_MAX),
                                        .first = first};
            made++;
        }
    }
    return made;
}
