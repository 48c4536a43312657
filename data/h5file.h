#pragma once
// HDF5 files of ours: a user block in front, checked before the library opens the file.
//
// User block (512 bytes, little-endian): magic "RETORT\r\n", kind (16 bytes, NUL-padded), u32
// format version, u32 number of sample regions, u64 file length, u64 XXH3-64 of the bytes after the
// user block that lie in no sample region, then up to 8 sample regions (u64 offset, u64 length),
// and last the XXH3-64 of the block's own first 504 bytes. Sample regions are the raw bytes of
// contiguous datasets that carry a checksum per block of samples of their own. Files are written by
// one process, and appear whole or not at all (base/file.h). HDF5's own file locking is off. Not
// collective; a handle belongs to one thread.

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "data/userblock.h"

#define H5_KIND_DATASET "dataset"
#define H5_KIND_LOGITS "logits"
#define H5_KIND_CHECKPOINT "checkpoint"
#define H5_KIND_EVAL_LOGITS "eval-logits"

// The newest format of each kind that this program writes and reads.
enum {
    H5_DATASET_VERSION = 1,
    H5_LOGITS_VERSION = 1,
    H5_CHECKPOINT_VERSION = 1,
    H5_EVAL_LOGITS_VERSION = 1
};

struct h5file {
    hid_t id;                    // < 0 when closed
    char path[PATH_CAPACITY];    // the destination
    char partial[PATH_CAPACITY]; // what is written; "" for a file opened to read
    char kind[17];
    uint32_t version;
    uint64_t bytes; // of a file opened to read
    bool quiet;     // its refusals are not printed
    int region_count;
    struct userblock_region regions[USERBLOCK_REGIONS];
};

// Starts a file that will appear at `path` (RETORT_WRITE when that cannot be).
int h5file_create(struct h5file *f, const char *path, const char *kind, uint32_t version);
// Claims disk space for a file of `bytes` bytes, so that a full disk is noticed before hours of
// work are (RETORT_WRITE). Does nothing where the file system cannot.
int h5file_reserve(struct h5file *f, uint64_t bytes);
// Declares the raw bytes of a contiguous dataset, already written, as a sample region.
int h5file_add_region(struct h5file *f, hid_t dataset);
// Closes, writes the user block, flushes, renames. The handle is closed either way; on failure
// nothing is left behind.
int h5file_commit(struct h5file *f);
// Closes a file being read, or discards one being written. Takes a closed handle too.
void h5file_close(struct h5file *f);

// Opens a file to read after checking its user block and the checksum. `kind` may be NULL for any.
// RETORT_INPUT with one line for: no such file, not a file of ours, another kind, a newer format,
// truncated, damaged. `quiet` prints nothing then (for checkpoints, where an older one is tried
// next). RETORT_MEMORY, always with a line, when there was no memory to look.
int h5file_open(struct h5file *f, const char *path, const char *kind, bool quiet);
// RETORT_INPUT with a line about what is wrong inside a file, unless it was opened `quiet`.
int h5file_refuse(const struct h5file *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Starts with our magic: a cheap test, nothing is checked.
bool h5file_is_ours(const char *path);

// Small attributes on `object`; the readers print and return RETORT_INPUT when the attribute is
// missing or of another shape. Strings are UTF-8; read ones are the caller's to free().
int h5_write_text(hid_t object, const char *name, const char *text);
int h5_read_text(const struct h5file *f, hid_t object, const char *name, char **out);
int h5_write_i64(hid_t object, const char *name, int64_t value);
int h5_read_i64(const struct h5file *f, hid_t object, const char *name, int64_t *out);
int h5_write_f64s(hid_t object, const char *name, const double *values, size_t count);
int h5_read_f64s(const struct h5file *f, hid_t object, const char *name, double *out, size_t count);

// Opens a group or dataset, the caller's to H5Oclose(); < 0 when there is none. Links to other
// files are not followed: only this one was checked.
hid_t h5_open_object(hid_t group, const char *name);
// Opens a dataset to read, the caller's to H5Dclose(). Its values lie in the file, in one piece, as
// ours do: a shape that claims more than there is is refused before anything is allocated for it.
int h5_open_array(const struct h5file *f, const char *name, hid_t *out);
// A whole contiguous dataset at `name` ("/train/images": groups on the way are made), in memory
// type `type` (H5T_NATIVE_FLOAT, …) of shape dims[rank]. The writer takes NULL for data that
// h5_write_rows will bring. Readers refuse another shape or another type.
int h5_write_array(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims,
                   const void *data);
int h5_read_array(const struct h5file *f, const char *name, hid_t type, int rank,
                  const hsize_t *dims, void *out);
// Rows [first, first + count) of the leading dimension.
int h5_write_rows(hid_t file, const char *name, hid_t type, uint64_t first, uint64_t count,
                  const void *data);
int h5_read_rows(const struct h5file *f, const char *name, hid_t type, uint64_t first,
                 uint64_t count, void *out);
// The shape of `name`: dims[8] and the rank, refused when missing.
int h5_shape(const struct h5file *f, const char *name, int *rank, hsize_t *dims);

// RETORT_WRITE with a line that names the file of `object` (internal to data/h5*.c).
int h5_write_failed(hid_t object, const char *name);
