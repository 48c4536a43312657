#pragma once
// Pictures' files as a network takes them.

#include <stdint.h>

// The picture at `path` into pixels [height, width, 3] u8. One of another size is resized as
// `retort pack --size` does, to a square. RETORT_INPUT names the file.
int predict_picture(uint8_t *pixels, const char *path, int height, int width);
