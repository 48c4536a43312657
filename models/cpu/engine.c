#include <omp.h>

#include "base/error.h"
#include "models/cpu/network.h"

static void cpu_close(struct engine *e)
{
    struct cpu_engine *c = (struct cpu_engine *)e;
    dnn_close(&c->dnn);
    free(c);
}

static const struct engine_ops OPS = {
    .name = "cpu",
    .close = cpu_close,
    HOST_ENGINE_OPS,
    .network_create = cpu_network_create,
    .network_destroy = cpu_network_destroy,
    .network_plan = cpu_network_plan,
    .network_memory = cpu_network_memory,
    .network_set_weights = cpu_network_set_weights,
};

int cpu_open(struct engine **out, const struct engine_options *options)
{
    char detail[64];
    bool narrow = options->precision == PRECISION_BF16;
    if (!narrow && options->precision != PRECISION_AUTO && options->precision != PRECISION_F32)
        return FAIL(RETORT_USAGE,
                    "device cpu computes in f32 or bf16 only; use run.precision: f32");
    struct cpu_engine *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return FAIL(RETORT_MEMORY, "no memory for device cpu");
    // oneDNN shares its work among OpenMP's threads as they are when an operation is made.
    omp_set_num_threads(options->threads > 0 ? options->threads : 1);
    int rc = dnn_open(&c->dnn, narrow);
    if (rc != RETORT_OK) {
        free(c);
        return rc;
    }
    dnn_describe(&c->dnn, detail, sizeof(detail));
    host_engine_init(&c->host, &OPS, REAL_F32, options->threads, detail);
    *out = &c->host.base;
    return RETORT_OK;
}
