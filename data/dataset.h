#pragma once
// A packed data set: pictures and labels of two splits in one HDF5 file.
//
//   /train/images [N, height, width, 3] u8   contiguous, a sample region
//   /train/labels [N] i32, /train/block_xxh3 [ceil(N / 128)] u64 (images of a block of 128 samples)
//   /val/…                                   the same
//   /classes/ids [C], /classes/names [C]     fixed-length UTF-8 strings
//   attributes of /: mean [3], deviation [3] (of train, pixels in [0, 1]), fingerprint (text, 32
//   hex digits of XXH3-128 over labels and block checksums of both splits), source, seed,
//   created_by
//
// A sample's id is its row: `pack` writes rows in a seeded random order, so any contiguous range of
// rows is balanced over classes. Blocks of 128 rows are the unit of checksums, of shards, of the
// logit pass and of evaluation.

#include <stdint.h>

#include "data/h5file.h"

enum { DATASET_BLOCK = 128, DATASET_VERSION = H5_DATASET_VERSION, DATASET_CHANNELS = 3 };
enum dataset_split { SPLIT_TRAIN, SPLIT_VAL, SPLIT_COUNT };

struct dataset {
    struct h5file file;
    int64_t count[SPLIT_COUNT];
    int height, width, class_count;
    double mean[3], deviation[3];
    char fingerprint[33];
    uint64_t *block_checksums[SPLIT_COUNT]; // owned, XXH3-64 of each block's pixels
};

// Opens and checks all but the pictures. RETORT_INPUT with one line on failure. Not collective.
int dataset_open(struct dataset *d, const char *path);
void dataset_close(struct dataset *d);

// Rows [first, first + count) of a split: pixels [count, height, width, 3] u8 (may be NULL) and
// labels [count] i32 (may be NULL). Blocks wholly inside the range have their checksum verified;
// `first` is a multiple of DATASET_BLOCK in the product. RETORT_INPUT names file, split and block.
int dataset_read(const struct dataset *d, enum dataset_split split, int64_t first, int64_t count,
                 uint8_t *pixels, int32_t *labels);

// The class's human name (falls back to its id); *out is the caller's to free().
int dataset_class_name(const struct dataset *d, int class_index, char **out);
// Its id: the name of its folder.
int dataset_class_id(const struct dataset *d, int class_index, char **out);

// Writing, by `pack`: rows in any order of calls, every row once.
struct dataset_writer; // opaque
struct dataset_header {
    int64_t count[SPLIT_COUNT];
    int height, width, class_count;
    const char *const *class_ids, *const *class_names; // borrowed, [class_count]
    const char *source;                                // what was packed, borrowed
    uint64_t seed;
};
int dataset_writer_create(struct dataset_writer **out, const char *path,
                          const struct dataset_header *header);
// One block of rows: `first` is a multiple of DATASET_BLOCK, `count` is DATASET_BLOCK but for the
// last block of the split.
int dataset_writer_put(struct dataset_writer *w, enum dataset_split split, int64_t first,
                       int64_t count, const uint8_t *pixels, const int32_t *labels);
// Statistics, fingerprint, checksums, rename; frees the writer either way.
int dataset_writer_commit(struct dataset_writer **w);
// Frees, leaves nothing behind; takes NULL.
void dataset_writer_discard(struct dataset_writer **w);

// "train" or "val".
const char *dataset_split_name(enum dataset_split split);

// Number of blocks of a split of `count` rows.
int64_t dataset_block_count(int64_t count);
// 32 hex digits of XXH3-128 over, for train and then val, labels (i32) and block checksums (u64).
int dataset_fingerprint(const int64_t count[SPLIT_COUNT], int32_t *const labels[SPLIT_COUNT],
                        uint64_t *const block_checksums[SPLIT_COUNT], char out[33]);
// "/train/images": the name of a split's dataset, in one of a few constant strings.
enum dataset_part { PART_IMAGES, PART_LABELS, PART_CHECKSUMS, PART_COUNT };
const char *dataset_part_name(enum dataset_split split, enum dataset_part part);

// Recomputes the checksums of every block of a split; RETORT_INPUT names the first bad block.
int dataset_verify_blocks(const struct dataset *d, enum dataset_split split);
