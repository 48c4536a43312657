#pragma once
// What an augmentation does to a picture: decisions and coordinates, shared by host and device.
//
// crop_flip: the picture is padded by 4 on every side by reflection (edge not repeated, as
// torchvision's padding_mode="reflect"), a window of its own size is cut at (dy, dx) in [0, 8]²,
// and mirrored left-right with probability 1/2. Keyed by (seed, domain, view, sample id) alone.

#include "base/random.h"

enum augment_kind { AUGMENT_NONE, AUGMENT_CROP_FLIP };
enum { AUGMENT_PADDING = 4 };

struct augment_choice {
    int dy, dx; // offset of the window in the padded picture minus the padding: [-4, 4]
    int flip;   // 0 or 1
};

HOST_DEVICE static inline struct augment_choice augment_choose(enum augment_kind kind,
                                                               uint64_t seed,
                                                               enum random_domain domain,
                                                               uint32_t view, uint64_t sample_id)
{
    struct augment_choice c = {0, 0, 0};
    if (kind == AUGMENT_CROP_FLIP) {
        struct random_block r = random_draw(seed, domain, view, sample_id);
        c.dy = (int)random_below(r.v[0], 2 * AUGMENT_PADDING + 1) - AUGMENT_PADDING;
        c.dx = (int)random_below(r.v[1], 2 * AUGMENT_PADDING + 1) - AUGMENT_PADDING;
        c.flip = (int)(r.v[2] & 1u);
    }
    return c;
}

// Mirrors a coordinate into [0, size): -1 -> 1, size -> size - 2. Needs size > AUGMENT_PADDING.
HOST_DEVICE static inline int augment_reflect(int at, int size)
{
    if (at < 0)
        at = -at;
    if (at >= size)
        at = 2 * (size - 1) - at;
    return at;
}

// Where output pixel (y, x) of an augmented height × width picture is read from.
HOST_DEVICE static inline void augment_source(struct augment_choice c, int height, int width, int y,
                                              int x, int *source_y, int *source_x)
{
    int mirrored = c.flip ? width - 1 - x : x;
    *source_y = augment_reflect(y + c.dy, height);
    *source_x = augment_reflect(mirrored + c.dx, width);
}
