#pragma once
// Files: folders, whole reads, and files that are whole or not there.
//
// A file under construction is written beside its destination as "<path>.<pid>.partial", flushed,
// renamed, and its folder flushed: a reader sees the old file or the new one, never half of one.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_CAPACITY = 4096 };

// Joins with one slash into out[PATH_CAPACITY]; returns RETORT_USAGE when it does not fit.
int path_join(char *out, const char *folder, const char *name);

bool file_exists(const char *path); // of any kind
bool folder_exists(const char *path);
// -1 when there is no such file.
int64_t file_size(const char *path);
// mkdir -p.
int folder_create(const char *path);

// Reads a whole file of at most `limit` bytes; *out is NUL-terminated and the caller's to free().
int file_read(const char *path, size_t limit, char **out, size_t *out_bytes);

// The name a file at `path` is written under until it is whole; out[PATH_CAPACITY]. RETORT_WRITE
// where a folder, a device or a pipe is, or a link to one.
int partial_path(char *out, const char *path);
// Flushes the partial file, renames it to `path`, flushes the folder. On failure the partial file
// is removed and RETORT_WRITE returned.
int partial_commit(const char *partial, const char *path);
// Removes the partial file; no message.
void partial_discard(const char *partial);

// Writes `bytes` bytes as a whole file by the three above.
int file_write_whole(const char *path, const void *data, size_t bytes);
// The same, and its folders, for what is a convenience only: without a message and without waiting
// for the disk. False when it could not be.
bool file_offer(const char *path, const void *data, size_t bytes);

// All bytes to an open descriptor, in as many calls as it takes, signals in between included: 0 or
// errno; no message.
int write_all(int descriptor, const void *data, size_t bytes);
// Flushes a file's data or a folder's entries to disk.
int file_flush(const char *path);
int folder_flush(const char *path);
