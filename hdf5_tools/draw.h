#pragma once
// Drawn pictures: a textured shape on a busy ground, as a function of (seed, split, number).
//
// A class is a shape and a texture. A texture prefers a family of colours, which overlaps with its
// neighbours'; place, size, turn, ground, brightness, distractors and noise vary.

#include <stdint.h>

enum { DRAW_SHAPES = 10, DRAW_TEXTURES = 8 };

struct drawing {
    int shape, texture; // below the counts above
    int size;           // side in pixels
    uint64_t seed;
    uint32_t split;
    uint64_t number; // of the picture within its split, below 2^40
};

// Fills pixels [size, size, 3] with RGB.
void draw_picture(const struct drawing *d, uint8_t *pixels);

// "disc", "striped".
const char *draw_shape_name(int shape);
const char *draw_texture_name(int texture);
