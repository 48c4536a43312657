#include "hdf5_tools/arguments.h"

#include <errno.h>
#include <stdlib.h>

#include "base/error.h"

int argument_integer(const char *command, const char *option, const char *text, int64_t low,
                     int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        return FAIL(RETORT_USAGE, "%s: --%s %s: expected a whole number from %lld to %lld", command,
                    option, text, (long long)low, (long long)high);
    *out = value;
    return RETORT_OK;
}

int argument_refused(const char *command, int returned, char **argv)
{
    const char *word = argv[optind - 1];
    if (returned == ':')
        return FAIL(RETORT_USAGE, "%s: %s wants a value", command, word);
    if (optopt > 0 && optopt < 256) // a short option, maybe in the middle of a word
        return FAIL(RETORT_USAGE, "%s: unknown option -%c; see \"retort %s --help\"", command,
                    optopt, command);
    return FAIL(RETORT_USAGE, "%s: unknown option %s; see \"retort %s --help\"", command, word,
                command);
}

int argument_words(const char *command, const char *usage, int argc, int count)
{
    int given = argc - optind;
    if (given == count)
        return RETORT_OK;
    return FAIL(RETORT_USAGE, "%s: %s; usage: %s", command,
                given < count ? "something is missing" : "there is a word too many", usage);
}
