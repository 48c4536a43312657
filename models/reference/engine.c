#include <string.h>

#include "base/error.h"
#include "models/reference/network.h"

// It has one way to compute everything.
static const char PLAN[] = "reference";

static void reference_close(struct engine *e)
{
    free(e);
}

static int reference_network_plan(const struct network *n, char **out)
{
    (void)n;
    *out = strdup(PLAN);
    return *out != NULL ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for an engine plan");
}

static size_t reference_network_memory(const struct network *n)
{
    return ((const struct reference_network *)n)->memory_bytes;
}

static int reference_network_set_weights(struct network *n, const void *arena)
{
    ((struct reference_network *)n)->arena = arena;
    return RETORT_OK;
}

static int reference_network_open(struct network **out, struct engine *e, const struct graph *g,
                                  const struct network_options *options, struct network *weights_of)
{
    if (options->plan != NULL && strcmp(options->plan, PLAN) != 0)
        return FAIL(RETORT_USAGE,
                    "an engine plan made on another device (\"%.40s\") does not run on device "
                    "reference; resume on the device the run was started on",
                    options->plan);
    return reference_network_create(out, e, g, options, weights_of);
}

static const struct engine_ops OPS = {
    .name = "reference",
    .close = reference_close,
    HOST_ENGINE_OPS,
    .network_create = reference_network_open,
    .network_destroy = reference_network_destroy,
    .network_plan = reference_network_plan,
    .network_memory = reference_network_memory,
    .network_set_weights = reference_network_set_weights,
};

int reference_open(struct engine **out, const struct engine_options *options)
{
    if (options->precision != PRECISION_AUTO && options->precision != PRECISION_F64)
        return FAIL(RETORT_USAGE, "device reference computes in f64 only; use run.precision: f64");
    struct host_engine *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return FAIL(RETORT_MEMORY, "no memory for device reference");
    // Its own loops run on one thread: the order of every sum is the order of the source.
    host_engine_init(e, &OPS, REAL_F64, 1, "plain C, f64");
    *out = &e->base;
    return RETORT_OK;
}
