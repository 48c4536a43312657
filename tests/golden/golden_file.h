#pragma once
// Reads the files of make.py; every call fails the test when what it wants is not there.

#include <stddef.h>

#include <hdf5.h>

hid_t golden_open(const char *name); // "conv4": conv4.h5 beside this file; H5Fclose closes
// A number among an object's attributes ("/": the file's own).
double golden_number(hid_t file, const char *object, const char *attribute);
void golden_text(hid_t file, const char *attribute, char *out, size_t out_bytes);
// Data set `path` of exactly `count` values into out, converted to `type`.
void golden_read(hid_t file, const char *path, hid_t type, void *out, size_t count);
// The same as doubles; the caller frees.
double *golden_values(hid_t file, const char *path, size_t count);
size_t golden_count(hid_t file, const char *path);
