#include <stdio.h>

#include "base/error.h"
#include "hdf5_tools/arguments.h"
#include "hdf5_tools/commands.h"
#include "hdf5_tools/synth.h"

static const char USAGE[] = "retort synth DIR [options]";
static const char HELP[] =
    "%s\n"
    "\n"
    "Writes a small learnable data set of drawn shapes and textures as JPEGs, in\n"
    "TinyImageNet's layout, into the new or empty folder DIR; \"retort pack\" packs it.\n"
    "\n"
    "  --classes N         a class is a shape and a texture (2 to 80, default 10)\n"
    "  --per-class N       pictures of each in train (1 to 100000, default 200)\n"
    "  --val-per-class N   pictures of each in val (1 to 100000, default 40)\n"
    "  --size N            side of a picture in pixels (16 to 1024, default 64)\n"
    "  --seed N            the same seed draws the same pictures (default 1)\n"
    "  --help              this text\n";

int synth_main(int argc, char **argv)
{
    enum { CLASSES = 256, PER_CLASS, VAL_PER_CLASS, SIZE, SEED, HELP_OPTION };
    static const struct option options[] = {
        {"classes", required_argument, NULL, CLASSES},
        {"per-class", required_argument, NULL, PER_CLASS},
        {"val-per-class", required_argument, NULL, VAL_PER_CLASS},
        {"size", required_argument, NULL, SIZE},
        {"seed", required_argument, NULL, SEED},
        {"help", no_argument, NULL, HELP_OPTION},
        {0},
    };
    int64_t classes = 10, per_class = 200, val_per_class = 40, size = 64, seed = 1;
    optind = 0; // start anew: the launcher may have parsed options of its own
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        int rc = RETORT_OK;
        if (c == CLASSES)
            rc = argument_integer("synth", "classes", optarg, 2, SYNTH_CLASS_LIMIT, &classes);
        else if (c == PER_CLASS)
            rc = argument_integer("synth", "per-class", optarg, 1, 100000, &per_class);
        else if (c == VAL_PER_CLASS)
            rc = argument_integer("synth", "val-per-class", optarg, 1, 100000, &val_per_class);
        else if (c == SIZE)
            rc = argument_integer("synth", "size", optarg, 16, 1024, &size);
        else if (c == SEED)
            rc = argument_integer("synth", "seed", optarg, 0, INT64_MAX, &seed);
        else if (c == HELP_OPTION)
            return printf(HELP, USAGE) < 0 ? RETORT_FAILED : RETORT_OK;
        else
            rc = argument_refused("synth", c, argv);
        if (rc != RETORT_OK)
            return rc;
    }
    int rc = argument_words("synth", USAGE, argc, 1);
    if (rc != RETORT_OK)
        return rc;
    struct synth_options o = {.folder = argv[optind],
                              .classes = (int)classes,
                              .per_class = (int)per_class,
                              .val_per_class = (int)val_per_class,
                              .size = (int)size,
                              .seed = (uint64_t)seed};
    return synth(&o);
}
