#include "models/plugin.h"

#include "models/cuda/cuda.h"

int retort_engine_open(struct engine **out, const struct engine_options *options)
{
    return cuda_open(out, options);
}
