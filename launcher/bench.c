// retort bench: whole training steps against the clock.

#include <stdio.h>

#include "base/error.h"
#include "launcher/choices.h"
#include "launcher/commands.h"
#include "launcher/gpus.h"
#include "launcher/machine.h"
#include "launcher/options.h"
#include "launcher/start.h"

enum { RANKS_MAX = 4096, THREADS_MAX = 1024, BATCH_MAX = 1 << 20, SECONDS_MAX = 86400 };

static const char ABOUT[] = "Images a second of whole training steps, and where the time goes.";

struct arguments {
    int ranks, threads, batch, microbatches, seconds;
    const char *arch, *norm, *precision, *device;
    bool json;
};

static int parse(struct arguments *a, int argc, char **argv, bool *helped)
{
    const struct option_row rows[] = {
        {"arch", OPTION_TEXT, "NAME", &a->arch, "the network (default conv12)", 0, 0},
        {"norm", OPTION_CHOICE, "none|batch|batch_sync", &a->norm, "default batch", 0, 0},
        {"batch", OPTION_COUNT, "N", &a->batch, "global (default: 50 a rank)", 1, BATCH_MAX},
        {"ranks", OPTION_COUNT, "N", &a->ranks, "processes (default: one a GPU or core)", 1,
         RANKS_MAX},
        {"threads", OPTION_COUNT, "N", &a->threads, "of each rank (default: cores / ranks)", 1,
         THREADS_MAX},
        {"microbatches", OPTION_COUNT, "N", &a->microbatches,
         "parts of a batch (default: the ranks)", 1, BATCH_MAX},
        {"precision", OPTION_CHOICE, "f32|tf32|bf16|fp16", &a->precision,
         "default: bf16 on GPUs, f32 on processors", 0, 0},
        {"device", OPTION_DEVICE, DEVICE_CHOICES, &a->device, "what computes (default auto)", 0, 0},
        {"seconds", OPTION_COUNT, "N", &a->seconds, "how long (default 10)", 1, SECONDS_MAX},
        {"json", OPTION_FLAG, NULL, &a->json, "print one JSON object", 0, 0},
    };
    const struct command_options options = {"bench", "", ABOUT, rows, sizeof rows / sizeof rows[0],
                                            0,       0};
    int first;
    return options_parse(&options, argc, argv, &first, helped);
}

// What was not given follows from the machine.
static int settle(struct arguments *a)
{
    const int gpus = gpus_settle(&a->device, a->ranks);
    if (!a->ranks)
        a->ranks = gpus > 0 ? gpus : machine_cores();
    if (!a->threads)
        a->threads = machine_cores() / a->ranks;
    if (a->threads < 1)
        a->threads = 1;
    if (!a->batch)
        a->batch = 50 * a->ranks;
    if (!a->microbatches)
        a->microbatches = a->ranks;
    if (a->microbatches < a->ranks || a->batch < a->microbatches)
        return FAIL(RETORT_USAGE,
                    "bench: %d ranks, %d micro-batches and a batch of %d do not fit: every rank "
                    "wants a micro-batch and every micro-batch a sample",
                    a->ranks, a->microbatches, a->batch);
    return RETORT_OK;
}

int bench_main(int argc, char **argv)
{
    struct arguments a = {
        .arch = "conv12", .norm = "batch", .precision = "", .device = "auto", .seconds = 10};
    char batch[16], microbatches[16], threads[16], seconds[16];
    bool helped;
    int rc;
    TRY(parse(&a, argc, argv, &helped));
    if (helped)
        return RETORT_OK;
    TRY(settle(&a));
    snprintf(batch, sizeof batch, "%d", a.batch);
    snprintf(microbatches, sizeof microbatches, "%d", a.microbatches);
    snprintf(threads, sizeof threads, "%d", a.threads);
    snprintf(seconds, sizeof seconds, "%d", a.seconds);
    const char *arguments[] = {
        "bench",  a.arch, batch,       microbatches, threads, seconds, a.json ? "1" : "0",
        a.device, a.norm, a.precision, NULL};
    const struct start start = {
        .ranks = a.ranks, .threads = a.threads, .gpus = gpus_are(a.device), .arguments = arguments};
    rc = start_ranks(&start);
fail:
    return rc;
}
