#pragma once
// Decoding pictures: JPEG (libjpeg-turbo) and PNG (libspng) to 8-bit RGB, and resizing.
//
// Functions print nothing: they are called by many threads, and the caller knows the picture's
// name. They return 0, or a retort_code with the cause in `why`.

#include <stddef.h>
#include <stdint.h>

enum { PICTURE_WHY = 256 };

struct picture {
    uint8_t *pixels; // [height, width, 3] RGB, owned
    int height, width;
};
void picture_free(struct picture *p);

// Grey, CMYK and YCCK JPEGs and every kind of PNG become RGB; an alpha channel is dropped. What a
// decoder warns of (a file that ends early) is an error. `short_side` > 0 lets the decoder shrink a
// large JPEG as long as its short side stays at least twice that. RETORT_INPUT when it is damaged.
int picture_decode(const uint8_t *bytes, size_t byte_count, int short_side, struct picture *out,
                   char why[PICTURE_WHY]);

// The middle [size, size, 3] of `p` scaled so that its short side is `size`, by a triangle filter
// as wide as the scale (bilinear when enlarging, antialiased when shrinking).
int picture_resize(const struct picture *p, int size, uint8_t *out, char why[PICTURE_WHY]);
