#include "data/pixel_memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static void *host_alloc(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes + 1); // + 1: malloc(0) may be NULL
}

static void host_free(void *context, void *p)
{
    (void)context;
    free(p);
}

static int host_upload(void *context, void *to, const void *from, size_t bytes)
{
    (void)context;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return RETORT_OK;
}

static int host_gather(void *context, void *to, const void *from, const int64_t *rows,
                       int64_t count, size_t row_bytes)
{
    (void)context;
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)to + (size_t)i * row_bytes, (const char *)from + (size_t)rows[i] * row_bytes,
               row_bytes);
    return RETORT_OK;
}

const struct pixel_memory pixel_memory_host = {.alloc = host_alloc,
                                               .free = host_free,
                                               .upload = host_upload,
                                               .gather = host_gather,
                                               .is_host = true};
