// retort predict: the likeliest classes of pictures.

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "launcher/checkpoint_choice.h"
#include "launcher/choices.h"
#include "launcher/commands.h"
#include "launcher/machine.h"
#include "launcher/options.h"
#include "launcher/start.h"

enum { THREADS_MAX = 1024 };

static const char ABOUT[] =
    "The five likeliest classes of each picture, with their probabilities. JPEG and PNG are read;\n"
    "a picture of another size than the network's is resized as \"retort pack --size\" does. A "
    "run\n"
    "folder stands for its furthest stage.";

struct arguments {
    int threads;
    const char *weights, *stage, *device;
    bool json;
};

static int parse(struct arguments *a, int argc, char **argv, int *first, bool *helped)
{
    const struct option_row rows[] = {
        {"weights", OPTION_CHOICE, "raw|ema", &a->weights, "default raw", 0, 0},
        {"stage", OPTION_CHOICE, "teacher|baseline|student", &a->stage,
         "of a run (default: the student, else what there is)", 0, 0},
        {"threads", OPTION_COUNT, "N", &a->threads, "default: one a core", 1, THREADS_MAX},
        {"device", OPTION_DEVICE, DEVICE_CHOICES, &a->device, "what computes (default auto)", 0, 0},
        {"json", OPTION_FLAG, NULL, &a->json, "print a JSON object a picture, each on a line", 0,
         0},
    };
    const struct command_options options = {
        "predict", "CKPT_OR_RUN IMAGE...", ABOUT, rows, sizeof rows / sizeof rows[0], 2, INT_MAX};
    return options_parse(&options, argc, argv, first, helped);
}

int predict_main(int argc, char **argv)
{
    enum { BEFORE = 6 }; // words in front of the pictures
    struct arguments a = {.weights = "raw", .device = "auto"};
    char checkpoint[PATH_CAPACITY], threads[16];
    const char **words = NULL;
    bool helped;
    int first, rc;
    TRY(parse(&a, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    TRY(checkpoint_choose(checkpoint, argv[first], a.stage));
    snprintf(threads, sizeof threads, "%d", a.threads ? a.threads : machine_cores());
    const char *before[BEFORE] = {"predict",          checkpoint, a.weights,
                                  a.json ? "1" : "0", a.device,   threads};
    words = calloc((size_t)argc + BEFORE, sizeof *words);
    TRY_ELSE(words, RETORT_MEMORY, "no memory for a command line");
    memcpy(words, before, sizeof before);
    for (int i = first + 1; i < argc; i++)
        words[BEFORE + i - first - 1] = argv[i];
    rc = start_alone(words);
fail:
    free(words);
    return rc;
}
