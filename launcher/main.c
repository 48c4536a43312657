// The `retort` command: finds the subcommand.

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "hdf5_tools/commands.h"
#include "launcher/commands.h"

#ifndef RETORT_VERSION
#error "RETORT_VERSION comes from the build"
#endif

static const struct {
    const char *name;
    int (*function)(int argc, char **argv);
    const char *help;
} COMMANDS[] = {
    {"pack", pack_main, "pack an image folder or archive into one HDF5 file"},
    {"synth", synth_main, "write a small learnable data set of drawn shapes"},
    {"inspect", inspect_main, "say what an HDF5 file of retort is"},
    {"verify", verify_main, "recompute every checksum of a file"},
    {"run", run_main, "train: teacher, logits, baseline, student; again to go on"},
    {"submit", submit_main, "the same as a Slurm job that comes back by itself"},
    {"eval", eval_main, "top-1, top-5 and loss of a run or a checkpoint"},
    {"predict", predict_main, "the five likeliest classes of pictures"},
    {"export", export_main, "weights of a checkpoint to PyTorch, as safetensors"},
    {"import", import_main, "weights from PyTorch, as safetensors, to a checkpoint"},
    {"bench", bench_main, "images a second of whole training steps"},
    {"status", status_main, "what a run is doing, from its folder alone"},
    {"report", report_main, "one page of curves and tables, of one run or of several"},
    {"stop", stop_main, "ask a run to checkpoint and stop"},
    {"devices", devices_main, "what this machine offers"},
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static const int CODES[] = {RETORT_OK,      RETORT_FAILED, RETORT_USAGE, RETORT_INPUT,
                            RETORT_RANK,    RETORT_WRITE,  RETORT_BUSY,  RETORT_MEMORY,
                            RETORT_NUMERIC, RETORT_STOPPED};

static void print_help(void)
{
    printf("retort %s: trains a teacher, distils a student and averages it, on many ranks\n\n",
           RETORT_VERSION);
    printf("usage: retort COMMAND [options]; retort COMMAND --help\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s%s\n", COMMANDS[i].name, COMMANDS[i].help);
    printf("\nexit codes:\n\n");
    for (size_t i = 0; i < sizeof CODES / sizeof CODES[0]; i++)
        printf("  %-10d%s\n", CODES[i], retort_code_text(CODES[i]));
    printf("  %-10s%s\n", "128 + N", "ended at once by signal N");
}

// Letters to insert, delete or replace (Levenshtein 1966), for words below 32 letters.
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[32], b_length = strlen(b);
    if (b_length >= 32)
        return b_length;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_length];
}

static int refuse_unknown(const char *word)
{
    size_t nearest = 0;
    for (size_t i = 1; i < COMMAND_COUNT; i++)
        if (edit_distance(word, COMMANDS[i].name) < edit_distance(word, COMMANDS[nearest].name))
            nearest = i;
    return FAIL(RETORT_USAGE, "unknown command %s; did you mean %s? \"retort --help\" lists all",
                word, COMMANDS[nearest].name);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return FAIL(RETORT_USAGE, "no command; \"retort --help\" lists them");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return RETORT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("retort %s\n", RETORT_VERSION);
        return RETORT_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], COMMANDS[i].name) == 0)
            return COMMANDS[i].function(argc - 1, argv + 1);
    return refuse_unknown(argv[1]);
}
