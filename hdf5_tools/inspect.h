#pragma once
// What an HDF5 file of ours is.

#include <jansson.h>
#include <stdbool.h>

// Describes a file as JSON: file, kind, version, bytes, structure ("whole": it is checked),
// attributes of the root, datasets (name, shape, type), and for a data set also train, val,
// classes, height, width, mean, deviation, fingerprint. *out is the caller's (json_decref).
// RETORT_INPUT when the file is missing, not ours or damaged.
int inspect_describe(const char *path, json_t **out);

// Prints that to stdout, as JSON or as text.
int inspect(const char *path, bool as_json);
