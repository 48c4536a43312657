#pragma once
// Decoding the pictures of an image folder on several threads, a block of rows at a time.
//
// Worker threads fill blocks; the caller's thread, the only one that prints or writes, takes them.

#include <stdbool.h>
#include <stdint.h>

#include "data/dataset.h"
#include "hdf5_tools/image_folder.h"
#include "hdf5_tools/source.h"

struct decode_settings {
    const struct source *source;       // borrowed
    const struct image_folder *folder; // borrowed
    int size;                          // as pack_options
    int height, width;                 // of every decoded picture
    uint64_t seed;
    int threads;
};

struct decode_block {
    enum dataset_split split;
    int64_t first, count; // rows
    uint8_t *pixels;      // [count, height, width, 3]
    int32_t *labels;      // [count]
    struct decode_block *next;
};

struct decode_job; // opaque

int decode_job_start(struct decode_job **out, const struct decode_settings *settings);
// The next finished block, in no particular order; NULL after the last. It is given back with
// decode_job_return. RETORT_INPUT names the picture that could not be decoded.
int decode_job_take(struct decode_job *job, struct decode_block **out);
void decode_job_return(struct decode_job *job, struct decode_block *block);
// Stops the threads and frees; takes NULL.
void decode_job_finish(struct decode_job **job);

// Tries every picture of a split and takes those that cannot be decoded out of the folder, with a
// warning each; adds their number to *skipped.
int decode_drop_bad(const struct source *source, struct image_folder *folder,
                    enum dataset_split split, int threads, int64_t *skipped);

// The size of the first picture of a split. RETORT_INPUT names it.
int decode_first_size(const struct source *source, const struct image_folder *folder,
                      enum dataset_split split, int *height, int *width);
