#include <stdio.h>

#include "base/error.h"
#include "hdf5_tools/arguments.h"
#include "hdf5_tools/commands.h"
#include "hdf5_tools/pack.h"

static const char USAGE[] = "retort pack SRC OUT.h5 [options]";
static const char HELP[] =
    "%s\n"
    "\n"
    "Packs pictures into one HDF5 file. SRC is TinyImageNet or any image folder\n"
    "(train/<class>/... and val/<class>/...), as a folder, .zip, .tar or .tar.gz.\n"
    "JPEG and PNG are read; grey and CMYK pictures become RGB.\n"
    "\n"
    "  --size N      resize: the short side to N pixels, then the middle N x N (1 to 4096;\n"
    "                default: pictures stay as they are and must all have one size)\n"
    "  --seed N      of the random order in which pictures are stored (default 1)\n"
    "  --threads N   that decode (1 to 1024; default: one a core)\n"
    "  --skip-bad    leave out and list pictures that can't be decoded (default: stop at one)\n"
    "  --help        this text\n";

int pack_main(int argc, char **argv)
{
    enum { SIZE = 256, SEED, THREADS, SKIP_BAD, HELP_OPTION };
    static const struct option options[] = {
        {"size", required_argument, NULL, SIZE},       {"seed", required_argument, NULL, SEED},
        {"threads", required_argument, NULL, THREADS}, {"skip-bad", no_argument, NULL, SKIP_BAD},
        {"help", no_argument, NULL, HELP_OPTION},      {0},
    };
    int64_t size = 0, seed = 1, threads = 0;
    struct pack_options o = {0};
    optind = 0; // start anew: the launcher may have parsed options of its own
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        int rc = RETORT_OK;
        if (c == SIZE)
            rc = argument_integer("pack", "size", optarg, 1, 4096, &size);
        else if (c == SEED)
            rc = argument_integer("pack", "seed", optarg, 0, INT64_MAX, &seed);
        else if (c == THREADS)
            rc = argument_integer("pack", "threads", optarg, 1, 1024, &threads);
        else if (c == SKIP_BAD)
            o.skip_bad = true;
        else if (c == HELP_OPTION)
            return printf(HELP, USAGE) < 0 ? RETORT_FAILED : RETORT_OK;
        else
            rc = argument_refused("pack", c, argv);
        if (rc != RETORT_OK)
            return rc;
    }
    int rc = argument_words("pack", USAGE, argc, 2);
    if (rc != RETORT_OK)
        return rc;
    o.source = argv[optind];
    o.output = argv[optind + 1];
    o.size = (int)size;
    o.seed = (uint64_t)seed;
    o.threads = (int)threads;
    return pack(&o, NULL);
}
