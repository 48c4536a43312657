#pragma once
// What tests of files share: a folder of their own, and the messages that were printed.

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

struct scratch {
    char folder[PATH_CAPACITY];
    char log[PATH_CAPACITY]; // every message, beside the folder
};

// cmocka's setup and teardown: *state becomes the scratch; the folder is removed afterwards.
int scratch_setup(void **state);
int scratch_teardown(void **state);

// "<folder>/<name>" in one of a few buffers that take turns.
const char *scratch_path(const struct scratch *s, const char *name);
// Whether a message since the last call (or the start) holds all of `words` (NULL-terminated).
int scratch_said(const struct scratch *s, const char *const *words);
#define SAID(s, ...) scratch_said((s), (const char *const[]){__VA_ARGS__, NULL})

// Entries in the folder, by name.
int scratch_entries(const struct scratch *s);

// A whole file, for small ones; bytes are the caller's to free().
uint8_t *scratch_load(const char *path, size_t *bytes);
void scratch_store(const char *path, const void *data, size_t bytes);
