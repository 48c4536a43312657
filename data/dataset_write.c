// Writing a data set: the second half of data/dataset.h.

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/dataset.h"

struct dataset_writer {
    struct h5file file;
    int64_t count[SPLIT_COUNT];
    int height, width;
    int32_t *labels[SPLIT_COUNT];           // owned
    uint64_t *block_checksums[SPLIT_COUNT]; // owned
    bool *block_written[SPLIT_COUNT];       // owned
    uint64_t sum[3], square_sum[3];         // over train's pixels, exact
};

static size_t picture_bytes(const struct dataset_writer *w)
{
    return (size_t)w->height * (size_t)w->width * DATASET_CHANNELS;
}

// Fixed-length strings, as long as the longest.
static int write_list(hid_t file, const char *name, const char *const *entries, int count)
{
    size_t bytes = 1;
    for (int i = 0; i < count; i++)
        bytes = strlen(entries[i]) > bytes ? strlen(entries[i]) : bytes;
    char *packed = calloc((size_t)count, bytes);
    if (!packed)
        return FAIL(RETORT_MEMORY, "out of memory");
    for (int i = 0; i < count; i++)
        memcpy(packed + (size_t)i * bytes, entries[i], strlen(entries[i]));
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Tset_cset(type, H5T_CSET_UTF8);
    hsize_t dims[1] = {(hsize_t)count};
    int rc = h5_write_array(file, name, type, 1, dims, packed);
    H5Tclose(type);
    free(packed);
    return rc;
}

// All that is known before the first picture. The pictures come first in the file.
static int write_header(struct dataset_writer *w, const struct dataset_header *h)
{
    hid_t file = w->file.id;
    int rc;
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++) {
        hsize_t dims[4] = {(hsize_t)h->count[s], (hsize_t)h->height, (hsize_t)h->width,
                           DATASET_CHANNELS};
        TRY(h5_write_array(file, dataset_part_name(s, PART_IMAGES), H5T_NATIVE_UINT8, 4, dims,
                           NULL));
    }
    TRY(write_list(file, "/classes/ids", h->class_ids, h->class_count));
    TRY(write_list(file, "/classes/names", h->class_names, h->class_count));
    TRY(h5_write_text(file, "source", h->source));
    TRY(h5_write_i64(file, "seed", (int64_t)h->seed));
    TRY(h5_write_text(file, "created_by", "retort pack"));
fail:
    return rc;
}

static int allocate_split(struct dataset_writer *w, enum dataset_split split)
{
    size_t rows = (size_t)w->count[split];
    size_t blocks = (size_t)dataset_block_count(w->count[split]);
    w->labels[split] = calloc(rows + 1, sizeof *w->labels[split]);
    w->block_checksums[split] = calloc(blocks + 1, sizeof *w->block_checksums[split]);
    w->block_written[split] = calloc(blocks + 1, sizeof *w->block_written[split]);
    if (!w->labels[split] || !w->block_checksums[split] || !w->block_written[split])
        return FAIL(RETORT_MEMORY, "out of memory packing %lld pictures", (long long)rows);
    return RETORT_OK;
}

int dataset_writer_create(struct dataset_writer **out, const char *path,
                          const struct dataset_header *header)
{
    *out = NULL;
    struct dataset_writer *w = calloc(1, sizeof *w);
    if (!w)
        return FAIL(RETORT_MEMORY, "out of memory");
    w->height = header->height;
    w->width = header->width;
    memcpy(w->count, header->count, sizeof w->count);
    int rc;
    TRY(allocate_split(w, SPLIT_TRAIN));
    TRY(allocate_split(w, SPLIT_VAL));
    TRY(h5file_create(&w->file, path, H5_KIND_DATASET, DATASET_VERSION));
    TRY(h5file_reserve(&w->file, (uint64_t)(w->count[0] + w->count[1]) * picture_bytes(w)));
    TRY(write_header(w, header));
    *out = w;
    return RETORT_OK;
fail:
    dataset_writer_discard(&w);
    return rc;
}

// Sums of bytes and of their squares by channel. The lanes are a multiple of three, so that a lane
// always meets the same channel, and of a vector's width; 32 bits hold 65,536 squares.
static void add_statistics(struct dataset_writer *w, const uint8_t *pixels, size_t bytes)
{
    enum { LANES = 48, TURNS = 65536 };
    while (bytes >= LANES) {
        uint32_t sum[LANES] = {0}, square_sum[LANES] = {0};
        size_t turns = bytes / LANES < TURNS ? bytes / LANES : TURNS;
        for (size_t t = 0; t < turns; t++, pixels += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                uint32_t x = pixels[lane];
                sum[lane] += x;
                square_sum[lane] += x * x;
            }
        bytes -= turns * LANES;
        for (int lane = 0; lane < LANES; lane++) {
            w->sum[lane % 3] += sum[lane];
            w->square_sum[lane % 3] += square_sum[lane];
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        w->sum[i % 3] += pixels[i];
        w->square_sum[i % 3] += (uint64_t)pixels[i] * pixels[i];
    }
}

int dataset_writer_put(struct dataset_writer *w, enum dataset_split split, int64_t first,
                       int64_t count, const uint8_t *pixels, const int32_t *labels)
{
    int64_t block = first / DATASET_BLOCK;
    int64_t left = w->count[split] - first;
    CHECK(first % DATASET_BLOCK == 0 && left > 0 && !w->block_written[split][block]);
    CHECK(count == (left < DATASET_BLOCK ? left : DATASET_BLOCK));
    size_t bytes = (size_t)count * picture_bytes(w);
    w->block_checksums[split][block] = XXH3_64bits(pixels, bytes);
    w->block_written[split][block] = true;
    memcpy(w->labels[split] + first, labels, (size_t)count * sizeof *labels);
    if (split == SPLIT_TRAIN)
        add_statistics(w, pixels, bytes);
    return h5_write_rows(w->file.id, dataset_part_name(split, PART_IMAGES), H5T_NATIVE_UINT8,
                         (uint64_t)first, (uint64_t)count, pixels);
}

static int write_statistics(const struct dataset_writer *w)
{
    double mean[3] = {0, 0, 0}, deviation[3] = {0, 0, 0};
    double n = (double)w->count[SPLIT_TRAIN] * w->height * w->width;
    for (int c = 0; c < 3 && n > 0; c++) {
        double m = (double)w->sum[c] / n;
        double variance = (double)w->square_sum[c] / n - m * m;
        mean[c] = m / 255.0;
        deviation[c] = sqrt(variance > 0 ? variance : 0) / 255.0;
    }
    int rc = h5_write_f64s(w->file.id, "mean", mean, 3);
    return rc == RETORT_OK ? h5_write_f64s(w->file.id, "deviation", deviation, 3) : rc;
}

static int write_split_tail(struct dataset_writer *w, enum dataset_split split)
{
    hid_t file = w->file.id;
    hsize_t rows[1] = {(hsize_t)w->count[split]};
    hsize_t blocks[1] = {(hsize_t)dataset_block_count(w->count[split])};
    for (hsize_t b = 0; b < blocks[0]; b++)
        CHECK(w->block_written[split][b]);
    int rc;
    TRY(h5_write_array(file, dataset_part_name(split, PART_LABELS), H5T_NATIVE_INT32, 1, rows,
                       w->labels[split]));
    TRY(h5_write_array(file, dataset_part_name(split, PART_CHECKSUMS), H5T_NATIVE_UINT64, 1, blocks,
                       w->block_checksums[split]));
    hid_t images = H5Dopen2(file, dataset_part_name(split, PART_IMAGES), H5P_DEFAULT);
    rc = h5file_add_region(&w->file, images);
    H5Dclose(images);
fail:
    return rc;
}

int dataset_writer_commit(struct dataset_writer **writer)
{
    struct dataset_writer *w = *writer;
    char fingerprint[33];
    int rc;
    TRY(write_split_tail(w, SPLIT_TRAIN));
    TRY(write_split_tail(w, SPLIT_VAL));
    TRY(write_statistics(w));
    TRY(dataset_fingerprint(w->count, w->labels, w->block_checksums, fingerprint));
    TRY(h5_write_text(w->file.id, "fingerprint", fingerprint));
    TRY(h5file_commit(&w->file));
fail:
    dataset_writer_discard(writer);
    return rc;
}

void dataset_writer_discard(struct dataset_writer **writer)
{
    struct dataset_writer *w = *writer;
    *writer = NULL;
    if (!w)
        return;
    h5file_close(&w->file);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        free(w->labels[s]);
        free(w->block_checksums[s]);
        free(w->block_written[s]);
    }
    free(w);
}
