#include <stdio.h>

#include "base/error.h"
#include "hdf5_tools/arguments.h"
#include "hdf5_tools/commands.h"
#include "hdf5_tools/verify.h"

static const char USAGE[] = "retort verify FILE";
static const char HELP[] =
    "%s\n"
    "\n"
    "Recomputes every checksum of a data set, logits or checkpoint file.\n"
    "Ends with 0 only if the file is whole, and with 3 if it is damaged.\n"
    "\n"
    "  --help   this text\n";

int verify_main(int argc, char **argv)
{
    enum { HELP_OPTION = 256 };
    static const struct option options[] = {{"help", no_argument, NULL, HELP_OPTION}, {0}};
    optind = 0; // start anew: the launcher may have parsed options of its own
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == HELP_OPTION)
            return printf(HELP, USAGE) < 0 ? RETORT_FAILED : RETORT_OK;
        return argument_refused("verify", c, argv);
    }
    int rc = argument_words("verify", USAGE, argc, 1);
    return rc == RETORT_OK ? verify(argv[optind]) : rc;
}
