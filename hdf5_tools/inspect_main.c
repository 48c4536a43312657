#include <stdio.h>

#include "base/error.h"
#include "hdf5_tools/arguments.h"
#include "hdf5_tools/commands.h"
#include "hdf5_tools/inspect.h"

static const char USAGE[] = "retort inspect FILE [--json]";
static const char HELP[] =
    "%s\n"
    "\n"
    "Says what a data set, logits or checkpoint file is and holds.\n"
    "\n"
    "  --json   for programs\n"
    "  --help   this text\n";

int inspect_main(int argc, char **argv)
{
    enum { JSON = 256, HELP_OPTION };
    static const struct option options[] = {
        {"json", no_argument, NULL, JSON}, {"help", no_argument, NULL, HELP_OPTION}, {0}};
    bool as_json = false;
    optind = 0; // start anew: the launcher may have parsed options of its own
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == HELP_OPTION)
            return printf(HELP, USAGE) < 0 ? RETORT_FAILED : RETORT_OK;
        if (c != JSON)
            return argument_refused("inspect", c, argv);
        as_json = true;
    }
    int rc = argument_words("inspect", USAGE, argc, 1);
    return rc == RETORT_OK ? inspect(argv[optind], as_json) : rc;
}
