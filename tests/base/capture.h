#pragma once
// What a call writes to stdout or stderr, and scratch folders for tests of files.

#include <stddef.h>

// From here on, `descriptor` (1 or 2) goes into a file of its own.
void capture_begin(int descriptor);
// Ends it; returns the text, valid until the next capture.
const char *capture_end(void);

// A new empty folder under TMPDIR, valid until the next call; scratch_remove deletes the last one
// and what is in it.
const char *scratch_create(void);
void scratch_remove(void);
// Entries of a folder.
int folder_entries(const char *path);
