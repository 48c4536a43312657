#include "tests/worker/preload.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *preload_next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

void preload_path(int descriptor, char *out, size_t out_bytes)
{
    char link_name[64];
    (void)snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link_name, out, out_bytes - 1);
    out[length > 0 ? length : 0] = '\0';
}
