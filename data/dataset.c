#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"

enum { SIDE_LIMIT = 65536 };

const char *dataset_split_name(enum dataset_split split)
{
    return split == SPLIT_TRAIN ? "train" : "val";
}

const char *dataset_part_name(enum dataset_split split, enum dataset_part part)
{
    static const char *const names[SPLIT_COUNT][PART_COUNT] = {
        {"/train/images", "/train/labels", "/train/block_xxh3"},
        {"/val/images", "/val/labels", "/val/block_xxh3"},
    };
    return names[split][part];
}

int64_t dataset_block_count(int64_t count)
{
    return (count + DATASET_BLOCK - 1) / DATASET_BLOCK;
}

int dataset_fingerprint(const int64_t count[SPLIT_COUNT], int32_t *const labels[SPLIT_COUNT],
                        uint64_t *const block_checksums[SPLIT_COUNT], char out[33])
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return FAIL(RETORT_MEMORY, "out of memory");
    XXH3_128bits_reset(state);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        XXH3_128bits_update(state, labels[s], (size_t)count[s] * sizeof *labels[s]);
        XXH3_128bits_update(state, block_checksums[s],
                            (size_t)dataset_block_count(count[s]) * sizeof *block_checksums[s]);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    return RETORT_OK;
}

// Counts, height and width of a split, from the shape of its pictures.
static int read_split_shape(struct dataset *d, enum dataset_split split)
{
    const char *name = dataset_part_name(split, PART_IMAGES);
    hsize_t dims[8] = {0};
    int rank = 0;
    int rc = h5_shape(&d->file, name, &rank, dims);
    if (rc != RETORT_OK)
        return rc;
    if (rank != 4 || dims[3] != DATASET_CHANNELS || dims[1] > SIDE_LIMIT || dims[2] > SIDE_LIMIT)
        return FAIL(RETORT_INPUT, "%s: %s is no [N, height, width, 3]", d->file.path, name);
    if (dims[0] < 1 || dims[1] < 1 || dims[2] < 1)
        return FAIL(RETORT_INPUT, "%s: %s holds no pictures", d->file.path, name);
    if (split != SPLIT_TRAIN && ((int)dims[1] != d->height || (int)dims[2] != d->width))
        return FAIL(RETORT_INPUT, "%s: pictures of train and val differ in size", d->file.path);
    d->count[split] = (int64_t)dims[0];
    d->height = (int)dims[1];
    d->width = (int)dims[2];
    return RETORT_OK;
}

static int read_checksums(struct dataset *d, enum dataset_split split)
{
    hsize_t dims[1] = {(hsize_t)dataset_block_count(d->count[split])};
    d->block_checksums[split] = malloc(dims[0] * sizeof(uint64_t) + 1);
    if (!d->block_checksums[split])
        return FAIL(RETORT_MEMORY, "out of memory opening %s", d->file.path);
    return h5_read_array(&d->file, dataset_part_name(split, PART_CHECKSUMS), H5T_NATIVE_UINT64, 1,
                         dims, d->block_checksums[split]);
}

static int read_labels(const struct dataset *d, enum dataset_split split, int32_t **out)
{
    hsize_t dims[1] = {(hsize_t)d->count[split]};
    *out = malloc(dims[0] * sizeof(int32_t) + 1);
    if (!*out)
        return FAIL(RETORT_MEMORY, "out of memory opening %s", d->file.path);
    int rc = h5_read_array(&d->file, dataset_part_name(split, PART_LABELS), H5T_NATIVE_INT32, 1,
                           dims, *out);
    for (int64_t i = 0; rc == RETORT_OK && i < d->count[split]; i++)
        if ((*out)[i] < 0 || (*out)[i] >= d->class_count)
            rc = FAIL(RETORT_INPUT, "%s: row %lld of %s has label %d; there are %d classes",
                      d->file.path, (long long)i, dataset_split_name(split), (*out)[i],
                      d->class_count);
    return rc;
}

// Labels are in range, and labels and block checksums are those of the stored fingerprint.
static int check_fingerprint(const struct dataset *d)
{
    int32_t *labels[SPLIT_COUNT] = {NULL, NULL};
    char fingerprint[33];
    int rc;
    TRY(read_labels(d, SPLIT_TRAIN, &labels[SPLIT_TRAIN]));
    TRY(read_labels(d, SPLIT_VAL, &labels[SPLIT_VAL]));
    TRY(dataset_fingerprint(d->count, labels, d->block_checksums, fingerprint));
    TRY_ELSE(strcmp(fingerprint, d->fingerprint) == 0, RETORT_INPUT,
             "%s: its fingerprint doesn't fit its content", d->file.path);
fail:
    free(labels[SPLIT_TRAIN]);
    free(labels[SPLIT_VAL]);
    return rc;
}

static int read_header(struct dataset *d)
{
    hsize_t dims[8] = {0};
    int rank = 0, rc;
    char *fingerprint = NULL;
    TRY(read_split_shape(d, SPLIT_TRAIN));
    TRY(read_split_shape(d, SPLIT_VAL));
    TRY(h5_shape(&d->file, "/classes/ids", &rank, dims));
    TRY_ELSE(rank == 1 && dims[0] > 0 && dims[0] <= INT32_MAX, RETORT_INPUT,
             "%s: /classes/ids is no list", d->file.path);
    d->class_count = (int)dims[0];
    TRY(h5_read_f64s(&d->file, d->file.id, "mean", d->mean, 3));
    TRY(h5_read_f64s(&d->file, d->file.id, "deviation", d->deviation, 3));
    for (int c = 0; c < DATASET_CHANNELS; c++)
        TRY_ELSE(isfinite(d->mean[c]) && isfinite(d->deviation[c]), RETORT_INPUT,
                 "%s: its mean or deviation of channel %d is not finite", d->file.path, c);
    TRY(h5_read_text(&d->file, d->file.id, "fingerprint", &fingerprint));
    TRY_ELSE(strlen(fingerprint) == 32, RETORT_INPUT, "%s: its fingerprint is not 32 digits",
             d->file.path);
    memcpy(d->fingerprint, fingerprint, 33);
    TRY(read_checksums(d, SPLIT_TRAIN));
    TRY(read_checksums(d, SPLIT_VAL));
    TRY(check_fingerprint(d));
fail:
    free(fingerprint);
    return rc;
}

int dataset_open(struct dataset *d, const char *path)
{
    memset(d, 0, sizeof *d);
    int rc = h5file_open(&d->file, path, H5_KIND_DATASET, false);
    if (rc == RETORT_OK)
        rc = read_header(d);
    if (rc != RETORT_OK)
        dataset_close(d);
    return rc;
}

void dataset_close(struct dataset *d)
{
    h5file_close(&d->file);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        free(d->block_checksums[s]);
        d->block_checksums[s] = NULL;
    }
}

// Checks the blocks that lie wholly in rows [first, first + count), whose pixels are given.
static int check_blocks(const struct dataset *d, enum dataset_split split, int64_t first,
                        int64_t count, const uint8_t *pixels)
{
    const size_t row_bytes = (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
    const int64_t end = first + count;
    for (int64_t b = (first + DATASET_BLOCK - 1) / DATASET_BLOCK; b * DATASET_BLOCK < end; b++) {
        int64_t from = b * DATASET_BLOCK;
        int64_t to =
            from + DATASET_BLOCK < d->count[split] ? from + DATASET_BLOCK : d->count[split];
        if (to > end)
            break;
        const uint8_t *block = pixels + (size_t)(from - first) * row_bytes;
        if (XXH3_64bits(block, (size_t)(to - from) * row_bytes) != d->block_checksums[split][b])
            return FAIL(RETORT_INPUT,
                        "%s is damaged: block %lld of %s (pictures %lld to %lld) doesn't fit its "
                        "checksum; pack it again",
                        d->file.path, (long long)b, dataset_split_name(split), (long long)from,
                        (long long)to - 1);
    }
    return RETORT_OK;
}

int dataset_read(const struct dataset *d, enum dataset_split split, int64_t first, int64_t count,
                 uint8_t *pixels, int32_t *labels)
{
    int rc = RETORT_OK;
    if (labels)
        rc = h5_read_rows(&d->file, dataset_part_name(split, PART_LABELS), H5T_NATIVE_INT32,
                          (uint64_t)first, (uint64_t)count, labels);
    if (rc == RETORT_OK && pixels)
        rc = h5_read_rows(&d->file, dataset_part_name(split, PART_IMAGES), H5T_NATIVE_UINT8,
                          (uint64_t)first, (uint64_t)count, pixels);
    if (rc == RETORT_OK && pixels)
        rc = check_blocks(d, split, first, count, pixels);
    return rc;
}

int dataset_verify_blocks(const struct dataset *d, enum dataset_split split)
{
    const size_t row_bytes = (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
    const int64_t most = d->count[split] < DATASET_BLOCK ? d->count[split] : DATASET_BLOCK;
    uint8_t *pixels = malloc((size_t)most * row_bytes);
    if (!pixels)
        return FAIL(RETORT_MEMORY, "out of memory verifying %s", d->file.path);
    int rc = RETORT_OK;
    for (int64_t first = 0; rc == RETORT_OK && first < d->count[split]; first += DATASET_BLOCK) {
        int64_t left = d->count[split] - first;
        rc = dataset_read(d, split, first, left < DATASET_BLOCK ? left : DATASET_BLOCK, pixels,
                          NULL);
    }
    free(pixels);
    return rc;
}

// Entry `index` of a list of fixed-length strings; *out is the caller's to free().
static int read_list_entry(const struct dataset *d, const char *name, int index, char **out)
{
    *out = NULL;
    hid_t id;
    int rc = h5_open_array(&d->file, name, &id);
    if (rc != RETORT_OK)
        return rc;
    hid_t type = H5Dget_type(id);
    TRY_ELSE(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0, RETORT_INPUT,
             "%s: %s is no list of fixed-length strings", d->file.path, name);
    size_t bytes = H5Tget_size(type);
    *out = calloc(1, bytes + 1);
    TRY_ELSE(*out, RETORT_MEMORY, "out of memory reading %s", d->file.path);
    TRY(h5_read_rows(&d->file, name, type, (uint64_t)index, 1, *out));
fail:
    H5Tclose(type);
    H5Dclose(id);
    if (rc != RETORT_OK) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

int dataset_class_id(const struct dataset *d, int class_index, char **out)
{
    return read_list_entry(d, "/classes/ids", class_index, out);
}

int dataset_class_name(const struct dataset *d, int class_index, char **out)
{
    int rc = read_list_entry(d, "/classes/names", class_index, out);
    if (rc == RETORT_OK && **out == '\0') {
        free(*out);
        rc = dataset_class_id(d, class_index, out);
    }
    return rc;
}
