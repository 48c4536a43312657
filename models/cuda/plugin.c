#include "models/plugin.h"

#include <nccl.h>
#include <stdio.h>
#include <string.h>

#include "models/cuda/cuda.h"

int retort_engine_open(struct engine **out, const struct engine_options *options)
{
    return cuda_open(out, options);
}

// The collectives of comm/nccl are in this library too.
void retort_engine_report(struct plugin_report *out)
{
    int version = 0;
    cuda_report(out);
    size_t used = strlen(out->libraries);
    if (ncclGetVersion(&version) == ncclSuccess)
        snprintf(out->libraries + used, sizeof(out->libraries) - used, ", NCCL %d.%d.%d",
                 version / 10000, version / 100 % 100, version % 100);
}
