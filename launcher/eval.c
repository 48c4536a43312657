// retort eval: a checkpoint on a split of a data set.

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"
#include "launcher/checkpoint_choice.h"
#include "launcher/choices.h"
#include "launcher/commands.h"
#include "launcher/gpus.h"
#include "launcher/machine.h"
#include "launcher/options.h"
#include "launcher/start.h"

enum { RANKS_MAX = 4096, THREADS_MAX = 1024 };

static const char ABOUT[] =
    "Top-1, top-5 and loss of a checkpoint, or of a run's furthest stage, counted over every\n"
    "sample of the split once.";

struct arguments {
    int ranks, threads;
    const char *data, *weights, *split, *stage, *device, *logits;
    bool json;
};

static int parse(struct arguments *a, int argc, char **argv, int *first, bool *helped)
{
    const struct option_row rows[] = {
        {"data", OPTION_TEXT, "FILE", &a->data, "the packed data set (default: the run's)", 0, 0},
        {"weights", OPTION_CHOICE, "raw|ema", &a->weights, "default raw", 0, 0},
        {"split", OPTION_CHOICE, "val|train", &a->split, "default val", 0, 0},
        {"stage", OPTION_CHOICE, "teacher|baseline|student", &a->stage,
         "of a run (default: the student, else what there is)", 0, 0},
        {"ranks", OPTION_COUNT, "N", &a->ranks, "processes (default: one a GPU or core)", 1,
         RANKS_MAX},
        {"threads", OPTION_COUNT, "N", &a->threads, "of each rank (default: cores / ranks)", 1,
         THREADS_MAX},
        {"device", OPTION_DEVICE, DEVICE_CHOICES, &a->device, "what computes (default auto)", 0, 0},
        {"logits", OPTION_TEXT, "OUT.h5", &a->logits, "keep the logits of every picture there", 0,
         0},
        {"json", OPTION_FLAG, NULL, &a->json, "print one JSON object", 0, 0},
    };
    const struct command_options options = {
        "eval", "RUN_OR_CKPT", ABOUT, rows, sizeof rows / sizeof rows[0], 1, 1};
    return options_parse(&options, argc, argv, first, helped);
}

static int find_data(char out[PATH_CAPACITY], const char *folder, const char *asked)
{
    static struct recipe recipe; // large
    char path[PATH_CAPACITY];
    if (asked)
        return path_join(out, "", asked);
    if (!folder)
        return FAIL(RETORT_USAGE, "eval: --data FILE is missing");
    int rc = path_join(path, folder, "recipe.yaml");
    if (rc == RETORT_OK)
        rc = recipe_load(&recipe, path);
    return rc == RETORT_OK ? path_join(out, "", recipe.data.path) : rc;
}

static int start_eval(struct arguments *a, const char *checkpoint, const char *data)
{
    char threads[16];
    const int gpus = gpus_settle(&a->device, a->ranks);
    const char *arguments[] = {
        "eval",    checkpoint, data,      a->weights, a->split, a->json ? "1" : "0",
        a->device, threads,    a->logits, NULL};
    struct start start = {.ranks = a->ranks, .gpus = gpus_are(a->device), .arguments = arguments};
    if (start.ranks == 0)
        start.ranks = gpus > 0 ? gpus : machine_cores();
    start.threads = a->threads ? a->threads : machine_cores() / start.ranks;
    if (start.threads < 1)
        start.threads = 1;
    snprintf(threads, sizeof threads, "%d", start.threads);
    return start_ranks(&start);
}

int eval_main(int argc, char **argv)
{
    struct arguments a = {.weights = "raw", .split = "val", .device = "auto", .logits = ""};
    char checkpoint[PATH_CAPACITY], data[PATH_CAPACITY];
    bool helped;
    int first, rc;
    TRY(parse(&a, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    const char *what = argv[first];
    TRY(checkpoint_choose(checkpoint, what, a.stage));
    TRY(find_data(data, folder_exists(what) ? what : NULL, a.data));
    TRY(checkpoint_check_ours(data));
    rc = start_eval(&a, checkpoint, data);
fail:
    return rc;
}
