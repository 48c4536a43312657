#include "tests/data/pixels.h"

#include <string.h>

void test_pixels_copy(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}
