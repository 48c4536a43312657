#include "worker/predict_picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "data/picture.h"

enum { FILE_LIMIT = 1 << 28 }; // bytes

int predict_picture(uint8_t *pixels, const char *path, int height, int width)
{
    struct picture p = {0};
    char *bytes = NULL, why[PICTURE_WHY];
    size_t byte_count;
    int rc;
    TRY(file_read(path, FILE_LIMIT, &bytes, &byte_count));
    const int side = height == width ? height : 0;
    rc = picture_decode((const uint8_t *)bytes, byte_count, side, &p, why);
    if (rc == RETORT_OK && side > 0)
        rc = picture_resize(&p, side, pixels, why);
    TRY_ELSE(rc == RETORT_OK, rc, "cannot decode %s: %s", path, why);
    if (side > 0)
        goto fail;
    TRY_ELSE(
        p.height == height && p.width == width, RETORT_INPUT,
        "%s has %d x %d pixels, and the network takes %d x %d; only square ones are resized to",
        path, p.width, p.height, width, height);
    memcpy(pixels, p.pixels, (size_t)height * (size_t)width * 3);
fail:
    picture_free(&p);
    free(bytes);
    return rc;
}
