#pragma once
// Packing an image folder or an archive of one into a data set file.
//
// The source is read once; pictures are then decoded on all cores into blocks of 128 rows, in a
// seeded random order, and written as they become ready. The file is there when it is whole.

#include <stdbool.h>
#include <stdint.h>

struct pack_options {
    const char *source; // a folder, .zip, .tar, .tar.gz, …; borrowed
    const char *output; // borrowed
    int size;           // side of the packed pictures in pixels; 0: as they are, all the same
    uint64_t seed;      // of the order of rows
    int threads;        // 0: one a core
    bool skip_bad;      // leave out what cannot be decoded, and list it
};

struct pack_summary {
    int64_t train_count, val_count, skipped_count;
    int class_count, height, width;
    double seconds;
};

// RETORT_INPUT names the picture, class or file at fault, RETORT_WRITE the file that cannot be
// written; nothing is left behind then. `summary` may be NULL.
int pack(const struct pack_options *options, struct pack_summary *summary);
