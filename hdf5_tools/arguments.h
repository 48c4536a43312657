#pragma once
// The command line of the tools: what they share.

#include <getopt.h>
#include <stdint.h>

// An integer of [low, high]; RETORT_USAGE with one line that names the option.
int argument_integer(const char *command, const char *option, const char *text, int64_t low,
                     int64_t high, int64_t *out);
// For getopt_long's '?' and ':' (its own messages being off): names the option at fault.
int argument_refused(const char *command, int returned, char **argv);
// Checks that `count` words remain after the options; RETORT_USAGE with the usage line otherwise.
int argument_words(const char *command, const char *usage, int argc, int count);
