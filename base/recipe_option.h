#pragma once
// One row a key of the recipe, and what can be done with a row: parse, print, describe, find.
// Internal to base/recipe*.c.

#include "base/recipe.h"

enum {
    OPTION_PATH_CAPACITY = 64,
    OPTION_TEXT_CAPACITY = PATH_CAPACITY + 2,
    OPTION_WHY = 512,
    OPTION_KIND = 256
};

enum option_type {
    OPTION_INT,    // int64_t
    OPTION_REAL,   // double
    OPTION_BOOL,   // bool
    OPTION_WORD,   // int64_t: position in `words`
    OPTION_NAME,   // char[RECIPE_WORD]
    OPTION_PATH,   // char[PATH_CAPACITY]
    OPTION_STAGES, // bool[STAGE_COUNT]
};

struct option {
    const char *path; // within its section: "optimizer.lr"
    enum option_type type;
    size_t offset; // within its section's struct
    const char *fallback;
    double low, high;         // of OPTION_INT and OPTION_REAL
    bool low_open, high_open; // the bound itself is refused
    bool automatic;           // 0 means, and is written, "auto"
    bool results;             // a difference changes what is computed: refused on resume
    const char *words;        // "sgd|adamw", in the order of the enum
    const char *help;
};

// A row as seen from the whole recipe.
struct option_ref {
    char path[OPTION_PATH_CAPACITY]; // "teacher.optimizer.lr"
    size_t offset;                   // within struct recipe
    const struct option *row;
};

// The index-th key in the order of printing; false past the last.
bool option_at(size_t index, struct option_ref *out);
bool option_find(const char *path, struct option_ref *out);
// "teacher", "teacher.optimizer": a name with keys below it; `first` is given one of them.
bool option_is_section(const char *path, struct option_ref *first);
// The known key or section that an unknown path was meant to be, or false.
bool option_suggest(const char *unknown, char out[OPTION_PATH_CAPACITY]);

// Parses `text` into the recipe; on false, `why` says what is wrong: "-5 is out of range; …".
// `quoted`: the text stood in quotes, so that it is no number and no true or false.
bool option_parse(const struct option_ref *o, struct recipe *r, const char *text, bool quoted,
                  char why[OPTION_WHY]);
// The value as option_parse reads it.
void option_text(const struct option_ref *o, const struct recipe *r,
                 char out[OPTION_TEXT_CAPACITY]);
// "a whole number of 1 or more", "one of sgd, adamw".
void option_kind(const struct option *row, char out[OPTION_KIND]);

// RETORT_USAGE and the line "<where>: unknown key <path>; did you mean …?".
int option_refuse_unknown(const char *where, const char *path);

// Reads a YAML text on top of what is in `r`; `file` names it in messages.
int recipe_read_yaml(struct recipe *r, const char *file, const char *text, size_t bytes);
