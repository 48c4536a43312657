// A data set behind a checksum that fits (tests/fuzz/h5script.h): refused with one line, or read;
// then also verified. Or described.

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/dataset.h"
#include "hdf5_tools/inspect.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/h5script.h"

// 3 training and 2 validation pictures of 2 x 2 pixels, of 2 classes.
enum { TRAIN = 3, VAL = 2, SIDE = 2, ROW = SIDE * SIDE * 3 };
enum { IMAGES, LABELS, CHECKSUMS, PARTS }; // arrays of a split, in this order
enum { FINGERPRINT = 2 };                  // position of the attribute
enum { ROWS_LIMIT = 3 * DATASET_BLOCK, SIDE_LIMIT = 8 };

static void plain(struct script_file *f)
{
    static const uint64_t rows[SPLIT_COUNT] = {TRAIN, VAL};
    static const int32_t labels[TRAIN] = {0, 1, 0};
    static const double mean[3] = {0.4, 0.5, 0.6}, deviation[3] = {0.2, 0.3, 0.1};
    static const int64_t seed = 1;
    uint8_t pixels[TRAIN * ROW];
    for (int i = 0; i < TRAIN * ROW; i++)
        pixels[i] = (uint8_t)(7 * i);
    *f = (struct script_file){.kind = H5_KIND_DATASET, .refit = true};
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++) {
        const uint64_t pictures[5] = {rows[s], SIDE, SIDE, 3}, column[2] = {rows[s]};
        const uint64_t one[2] = {1}, zero = 0;
        script_array(f, dataset_part_name(s, PART_IMAGES), SCRIPT_U8, pictures, pixels,
                     rows[s] * ROW)
            ->region = true;
        script_array(f, dataset_part_name(s, PART_LABELS), SCRIPT_I32, column, labels,
                     rows[s] * sizeof *labels);
        script_array(f, dataset_part_name(s, PART_CHECKSUMS), SCRIPT_U64, one, &zero, sizeof zero);
    }
    const uint64_t classes[2] = {2};
    script_array(f, "/classes/ids", SCRIPT_FIXED, classes, "ant\0\0bee\0\0", 10);
    script_array(f, "/classes/names", SCRIPT_FIXED, classes, "ants\0\0\0\0\0\0", 10);
    script_numbers(f, "mean", SCRIPT_F64, 3, mean, sizeof mean);
    script_numbers(f, "deviation", SCRIPT_F64, 3, deviation, sizeof deviation);
    script_text(f, "fingerprint", "00000000000000000000000000000000");
    script_text(f, "source", "a.tar");
    script_numbers(f, "seed", SCRIPT_I64, 1, &seed, sizeof seed);
    script_text(f, "created_by", "retort pack");
}

// Makes block checksums and the fingerprint fit what the arrays hold, where that is little.
static void refit_split(struct script_file *f, enum dataset_split split, int64_t *count,
                        int32_t **labels, uint64_t **checksums)
{
    struct script_member *a = &f->arrays[PARTS * split];
    const uint64_t *dims = a[IMAGES].dims;
    bool small = dims[0] <= ROWS_LIMIT && dims[1] <= SIDE_LIMIT && dims[2] <= SIDE_LIMIT;
    uint64_t rows = small ? dims[0] : 0, row_bytes = small ? dims[1] * dims[2] * 3 : 0;
    uint64_t blocks = (uint64_t)dataset_block_count((int64_t)rows);
    uint8_t *pixels = script_values(&a[IMAGES], rows * row_bytes);
    *count = (int64_t)rows;
    *labels = (int32_t *)(void *)script_values(&a[LABELS], rows * sizeof **labels);
    *checksums = calloc(blocks + 1, sizeof **checksums);
    CHECK(*checksums);
    for (uint64_t b = 0; b < blocks; b++) {
        uint64_t first = b * DATASET_BLOCK;
        uint64_t left = rows - first < DATASET_BLOCK ? rows - first : DATASET_BLOCK;
        (*checksums)[b] = XXH3_64bits(pixels + first * row_bytes, left * row_bytes);
    }
    if (a[CHECKSUMS].dims[0] == 1)
        a[CHECKSUMS].dims[0] = blocks;
    a[CHECKSUMS].bytes = blocks * sizeof **checksums;
    memcpy(a[CHECKSUMS].values, *checksums, a[CHECKSUMS].bytes);
    free(pixels);
}

static void refit(struct script_file *f)
{
    int64_t count[SPLIT_COUNT];
    int32_t *labels[SPLIT_COUNT];
    uint64_t *checksums[SPLIT_COUNT];
    char text[33];
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++)
        refit_split(f, s, &count[s], &labels[s], &checksums[s]);
    CHECK(dataset_fingerprint(count, labels, checksums, text) == RETORT_OK);
    struct script_member *fingerprint = &f->attributes[FINGERPRINT];
    if (fingerprint->bytes == 32)
        memcpy(fingerprint->values, text, 32);
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++) {
        free(labels[s]);
        free(checksums[s]);
    }
}

// What has been opened can be read to its end.
static void read_all(const struct dataset *d)
{
    CHECK(d->height > 0 && d->width > 0 && d->class_count > 0 && strlen(d->fingerprint) == 32);
    for (int c = 0; c < 3; c++)
        CHECK(isfinite(d->mean[c]) && isfinite(d->deviation[c]));
    for (int c = 0; c < d->class_count && c < 3; c++) {
        char *name = NULL;
        fuzz_expect(dataset_class_name(d, c, &name), RETORT_INPUT);
        free(name);
    }
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++) {
        CHECK(d->count[s] > 0);
        int64_t count = d->count[s] < DATASET_BLOCK ? d->count[s] : DATASET_BLOCK;
        size_t bytes = (size_t)count * (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
        uint8_t *pixels = malloc(bytes);
        int32_t labels[DATASET_BLOCK];
        CHECK(pixels);
        int rc = dataset_read(d, s, 0, count, pixels, labels);
        fuzz_expect(rc, RETORT_INPUT);
        for (int64_t i = 0; rc == RETORT_OK && i < count; i++)
            CHECK(labels[i] >= 0 && labels[i] < d->class_count);
        free(pixels);
        fuzz_expect(dataset_verify_blocks(d, s), RETORT_INPUT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct script_file f;
    struct dataset d;
    json_t *description;
    plain(&f);
    script_apply(&f, data, bytes);
    if (f.refit)
        refit(&f);
    const char *path = script_write(&f);
    if (f.other) {
        fuzz_expect(inspect_describe(path, &description), RETORT_INPUT);
        json_decref(description);
        return 0;
    }
    int rc = dataset_open(&d, path);
    fuzz_expect(rc, RETORT_INPUT);
    if (rc == RETORT_OK)
        read_all(&d);
    dataset_close(&d);
    return 0;
}
