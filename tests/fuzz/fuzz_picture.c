// A picture: any bytes are refused with a cause, or decoded, and then fit into a square. The first
// byte says how large that is, the rest is the file.

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/picture.h"
#include "tests/fuzz/fuzz.h"

static void resize(const struct picture *p, int size)
{
    char why[PICTURE_WHY];
    uint8_t *out = malloc((size_t)size * (size_t)size * 3);
    CHECK(out);
    CHECK(picture_resize(p, size, out, why) == RETORT_OK);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct picture p;
    char why[PICTURE_WHY] = "";
    if (bytes == 0)
        return 0;
    int side = data[0] % 65; // 0: as it is
    int rc = picture_decode(data + 1, bytes - 1, side, &p, why);
    CHECK(rc == RETORT_OK || rc == RETORT_INPUT);
    CHECK(rc == RETORT_OK ? p.pixels && p.height > 0 && p.width > 0 : !p.pixels && why[0]);
    if (rc == RETORT_OK)
        resize(&p, side ? side : 8);
    picture_free(&p);
    return 0;
}
