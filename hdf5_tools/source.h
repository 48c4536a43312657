#pragma once
// Where pictures come from: a folder, or an archive that is read as a stream, once.
//
// An archive's order is arbitrary and its files can be had only as they pass, so the wanted ones
// are kept in memory, compressed as they are. A folder's files stay where they are until they are
// loaded.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

struct source_entry {
    char *path;     // "tiny-imagenet-200/train/…", without leading "./" or closing slash; owned
    uint8_t *bytes; // of an archive's file, owned; NULL in a folder
    size_t byte_count;
    bool is_folder;
};

struct source {
    char location[PATH_CAPACITY];
    bool is_archive;
    struct source_entry *entries; // sorted by path (strcmp), owned
    size_t count, capacity;
    size_t memory_limit, held_bytes; // of an archive's entries
};

// Whether an entry is kept; a folder that isn't is not entered either.
typedef bool (*source_filter)(const char *path, bool is_folder);

// Lists `location`. RETORT_INPUT with one line: no such file, no archive, damaged, a name twice, an
// archive whose wanted files take more than `memory_limit` bytes, however small it is itself.
int source_read(struct source *s, const char *location, source_filter wanted, size_t memory_limit);
void source_free(struct source *s);

// An entry's bytes; `owned` is the caller's to free(). Prints nothing: `why` says what went wrong.
// May be called by several threads.
struct source_bytes {
    const uint8_t *data;
    size_t count;
    uint8_t *owned;
};
int source_load(const struct source *s, const struct source_entry *entry, struct source_bytes *out,
                char *why, size_t why_bytes);
