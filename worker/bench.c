#include "worker/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/log.h"
#include "base/recipe.h"
#include "worker/bench_step.h"
#include "worker/device.h"

enum { WARM_UP_STEPS = 2 };

// ---- the clock

static int run_steps(struct bench *b, int64_t steps, double *seconds)
{
    int rc = RETORT_OK;
    TRY(comm_barrier(b->comm));
    double start = clock_seconds();
    for (int64_t i = 0; i < steps; i++)
        TRY(bench_step(b));
    TRY(comm_barrier(b->comm));
    *seconds = clock_seconds() - start;
    TRY(comm_broadcast(b->comm, seconds, sizeof *seconds, 0));
fail:
    return rc;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// `seconds`: while parts were timed.
static void summarise(const struct bench *b, struct bench_result *out, double seconds)
{
    double sorted[BENCH_WINDOWS];
    memcpy(sorted, out->windows, sizeof sorted);
    qsort(sorted, BENCH_WINDOWS, sizeof sorted[0], compare_doubles);
    out->images_per_s = sorted[BENCH_WINDOWS / 2];
    out->spread = (sorted[BENCH_WINDOWS - 1] - sorted[0]) / out->images_per_s;
    for (int i = 0; i < BENCH_PARTS; i++)
        out->share[i] = (i < MICROBATCH_PARTS ? b->microbatches.seconds : b->seconds)[i] / seconds;
    out->network_bytes = microbatches_memory(&b->microbatches);
    out->flops_per_image = 3.0 * graph_flops(b->graph);
    out->ranks = comm_size(b->comm);
    (void)snprintf(out->processor, sizeof out->processor, "%s", engine_describe(b->engine));
    out->precision = device_precision_name(b->engine, b->options->precision);
}

// The largest rank's resident peak.
static int peak_memory(struct bench *b, size_t *out)
{
    struct rusage usage;
    int rc = RETORT_OK, size = comm_size(b->comm);
    uint64_t mine = 0, *all = calloc((size_t)size, sizeof *all);
    TRY_ELSE(all != NULL, RETORT_MEMORY, "no memory for %d ranks' figures", size);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        mine = (uint64_t)usage.ru_maxrss * 1024;
    TRY(comm_allgather(b->comm, &mine, sizeof mine, all));
    for (int i = 0; i < size; i++)
        *out = all[i] > *out ? (size_t)all[i] : *out;
fail:
    free(all);
    return rc;
}

static void forget_parts(struct bench *b)
{
    memset(b->seconds, 0, sizeof b->seconds);
    memset(b->microbatches.seconds, 0, sizeof b->microbatches.seconds);
}

// In steps of their own, which wait after each part.
static int time_parts(struct bench *b, int64_t steps, double *seconds)
{
    int rc = RETORT_OK;
    b->microbatches.timed = true;
    TRY(run_steps(b, WARM_UP_STEPS, seconds));
    forget_parts(b);
    TRY(run_steps(b, steps, seconds));
fail:
    return rc;
}

static int run_windows(struct bench *b, struct bench_result *out)
{
    double seconds, all = 0.0;
    int rc = RETORT_OK;
    b->microbatches.timed = !bench_replays(b); // a replay has no parts: see time_parts
    TRY(run_steps(b, WARM_UP_STEPS, &seconds));
    TRY(run_steps(b, 1, &seconds));
    int64_t steps = (int64_t)ceil(b->options->seconds / (seconds * BENCH_WINDOWS));
    forget_parts(b);
    for (int i = 0; i < BENCH_WINDOWS; i++) {
        TRY(run_steps(b, steps, &seconds));
        out->windows[i] = (double)steps * b->options->batch / seconds;
        out->steps += steps;
        all += seconds;
    }
    out->step_ms = 1e3 * all / (double)out->steps;
    if (!b->microbatches.timed)
        TRY(time_parts(b, steps, &all));
    summarise(b, out, all);
    TRY(peak_memory(b, &out->peak_memory_bytes));
fail:
    return rc;
}

int bench_measure(struct bench_result *out, struct comm *comm, const struct bench_options *options,
                  bool *agreed)
{
    struct bench b = {.options = options, .comm = comm};
    int rc = RETORT_OK;
    *out = (struct bench_result){0};
    *agreed = true;
    TRY(bench_open(&b));
    *agreed = false; // inside a step peers may sit in a collective
    TRY(run_windows(&b, out));
    *agreed = true;
fail:
    bench_close(&b, *agreed);
    return rc;
}

// ---- as retort-worker

// Of the launcher, which has checked it.
static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

static int64_t norm_of(const char *word)
{
    if (strcmp(word, "none") == 0)
        return NORM_NONE;
    return strcmp(word, "batch_sync") == 0 ? NORM_BATCH_SYNC : NORM_BATCH;
}

// "": the device's own.
static int64_t precision_of(const char *word, const char *device, bool aloud)
{
    static const struct {
        const char *word;
        int64_t kind;
    } KINDS[] = {{"f32", PRECISION_F32},
                 {"tf32", PRECISION_TF32},
                 {"bf16", PRECISION_BF16},
                 {"fp16", PRECISION_FP16}};
    int64_t asked = PRECISION_AUTO;
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strcmp(word, KINDS[i].word) == 0)
            asked = KINDS[i].kind;
    const int64_t settled = precision_on(device, asked);
    if (aloud && asked != PRECISION_AUTO && settled != asked)
        log_warn("bench: this processor gains nothing by %s; it computes in f32", word);
    return settled;
}

int bench_main(struct comm *comm, char **arguments, bool *agreed)
{
    struct bench_options options = {.arch = arguments[0],
                                    .device = device_choose(arguments[6]),
                                    .norm = norm_of(arguments[7]),
                                    .batch = number(arguments[1]),
                                    .microbatches = number(arguments[2]),
                                    .threads = number(arguments[3]),
                                    .seconds = number(arguments[4]),
                                    .size = 64,
                                    .classes = 200};
    struct bench_result result;
    int rc = RETORT_OK;
    *agreed = true;
    options.precision = precision_of(arguments[8], options.device, comm_rank(comm) == 0);
    if (options.batch < options.microbatches || options.microbatches < comm_size(comm))
        return FAIL(RETORT_USAGE, "bench: %d ranks, %d micro-batches and a batch of %d do not fit",
                    comm_size(comm), options.microbatches, options.batch);
    TRY(bench_measure(&result, comm, &options, agreed));
    if (comm_rank(comm) == 0)
        bench_print(&result, &options, strcmp(arguments[5], "1") == 0);
fail:
    return rc;
}
