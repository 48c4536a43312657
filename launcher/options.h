#pragma once
// A command line as one table: it makes the parser and the help, so that they cannot disagree.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OPTION_LIST_CAPACITY = 64 };

enum option_kind {
    OPTION_FLAG,   // bool *
    OPTION_TEXT,   // const char **
    OPTION_COUNT,  // int *, a whole number of [low, high]
    OPTION_CHOICE, // const char **, one of the words in `value` ("auto|cpu")
    OPTION_DEVICE, // the same; the tests' software GPU is taken too
    OPTION_LIST,   // struct text_list *, may be repeated
};

struct text_list {
    const char *items[OPTION_LIST_CAPACITY]; // borrowed from argv
    int count;
};

struct option_row {
    const char *name; // without the dashes
    enum option_kind kind;
    const char *value; // "N", "DIR", or the choices; NULL for a flag
    void *target;
    const char *help; // one line, with the default
    int low, high;    // of OPTION_COUNT
};

struct command_options {
    const char *command; // "run"
    const char *words;   // "RECIPE.yaml"
    const char *about;   // a paragraph for --help
    const struct option_row *rows;
    size_t row_count;
    int words_low, words_high; // how many words stand beside the options
};

// Parses argv (argv[0] is the command), fills the targets and moves the words to argv[*first] and
// on. `--help` prints the help and sets *helped. RETORT_USAGE with one line for anything else.
int options_parse(const struct command_options *c, int argc, char **argv, int *first, bool *helped);
