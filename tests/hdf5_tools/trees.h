#pragma once
// Image folders and archives of them, made for tests.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Encoders; the result is the caller's to free().
struct encoded {
    uint8_t *bytes;
    size_t count;
};
enum jpeg_kind { JPEG_RGB, JPEG_GREY, JPEG_CMYK, JPEG_YCCK, JPEG_CMYK_PLAIN }; // plain: no Adobe
// `pixels` has 3, 1, 4, 4 or 4 channels.
struct encoded encode_jpeg(enum jpeg_kind kind, const uint8_t *pixels, int height, int width);
// `colour_type` and `depth` as in the PNG header; `palette` [256][3] or NULL.
struct encoded encode_png(int colour_type, int depth, const void *pixels, size_t bytes, int height,
                          int width, const uint8_t (*palette)[3]);

// Writes a file, making the folders on the way.
void tree_put(const char *folder, const char *name, const void *bytes, size_t count);
// A PNG of one colour: (class * 40 + 5, k, split).
void tree_put_colour(const char *folder, const char *name, int class, int k, int split, int height,
                     int width);
// train/<c>/… with `per_class` and val/<c>/… with 2 pictures of 8 x 8 for classes "ant", "bee",
// "cat".
enum { TREE_CLASSES = 3, TREE_VAL = 2, TREE_SIDE = 8 };
void tree_make(const char *folder, int per_class);

enum archive_kind { ARCHIVE_TAR, ARCHIVE_TAR_GZ, ARCHIVE_ZIP };
// Packs a folder, its entries under `prefix` ("", "./", "top/") and in reverse order.
void tree_archive(const char *folder, const char *archive, enum archive_kind kind,
                  const char *prefix);
