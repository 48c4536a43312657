// Data set files: what is written is read, statistics are exact, damage is named.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/dataset.h"
#include "tests/data/scratch.h"

enum { HEIGHT = 6, WIDTH = 5, PIXELS = HEIGHT * WIDTH * 3, TRAIN = 300, VAL = 128, CLASSES = 3 };

static uint8_t pixel(enum dataset_split split, int64_t row, int at)
{
    return (uint8_t)(row * 31 + at * 7 + at / 11 + (int)split * 101);
}

static int32_t label(enum dataset_split split, int64_t row)
{
    return (int32_t)((row + split) % CLASSES);
}

static void put_block(struct dataset_writer *w, enum dataset_split split, int64_t first,
                      int64_t count)
{
    uint8_t *pixels = malloc((size_t)count * PIXELS);
    int32_t labels[DATASET_BLOCK];
    for (int64_t i = 0; i < count; i++) {
        labels[i] = label(split, first + i);
        for (int at = 0; at < PIXELS; at++)
            pixels[i * PIXELS + at] = pixel(split, first + i, at);
    }
    assert_int_equal(dataset_writer_put(w, split, first, count, pixels, labels), 0);
    free(pixels);
}

static void make_dataset(const char *path)
{
    static const char *const ids[CLASSES] = {"a", "bb", "cccc"}, *const names[CLASSES] = {
                                                                     "ape", "", "caf\xc3\xa9"};
    struct dataset_header header = {.count = {TRAIN, VAL},
                                    .height = HEIGHT,
                                    .width = WIDTH,
                                    .class_count = CLASSES,
                                    .class_ids = ids,
                                    .class_names = names,
                                    .source = "test",
                                    .seed = 9};
    struct dataset_writer *w;
    assert_int_equal(dataset_writer_create(&w, path, &header), 0);
    put_block(w, SPLIT_TRAIN, 256, 44); // any order
    put_block(w, SPLIT_VAL, 0, 128);
    put_block(w, SPLIT_TRAIN, 0, 128);
    put_block(w, SPLIT_TRAIN, 128, 128);
    assert_int_equal(dataset_writer_commit(&w), 0);
    assert_null(w);
}

static void returns_what_was_written(void **state)
{
    const char *path = scratch_path(*state, "d.h5");
    make_dataset(path);
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    assert_int_equal(d.count[SPLIT_TRAIN], TRAIN);
    assert_int_equal(d.count[SPLIT_VAL], VAL);
    assert_int_equal(d.height, HEIGHT);
    assert_int_equal(d.width, WIDTH);
    assert_int_equal(d.class_count, CLASSES);
    uint8_t *pixels = malloc(TRAIN * PIXELS);
    int32_t labels[TRAIN];
    assert_int_equal(dataset_read(&d, SPLIT_TRAIN, 100, 150, pixels, labels), 0);
    for (int64_t i = 0; i < 150; i++) {
        assert_int_equal(labels[i], label(SPLIT_TRAIN, 100 + i));
        for (int at = 0; at < PIXELS; at++)
            assert_int_equal(pixels[i * PIXELS + at], pixel(SPLIT_TRAIN, 100 + i, at));
    }
    assert_int_equal(dataset_read(&d, SPLIT_VAL, 0, VAL, pixels, NULL), 0);
    assert_int_equal(pixels[(VAL - 1) * PIXELS], pixel(SPLIT_VAL, VAL - 1, 0));
    assert_int_equal(dataset_read(&d, SPLIT_VAL, 0, VAL + 1, NULL, labels), RETORT_INPUT);
    char *name;
    static const char *const names[CLASSES] = {"ape", "bb", "caf\xc3\xa9"}; // "" falls back
    for (int c = 0; c < CLASSES; c++) {
        assert_int_equal(dataset_class_name(&d, c, &name), 0);
        assert_string_equal(name, names[c]);
        free(name);
    }
    free(pixels);
    dataset_close(&d);
    dataset_close(&d);
}

static void statistics_are_those_of_train(void **state)
{
    const char *path = scratch_path(*state, "d.h5");
    make_dataset(path);
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    for (int c = 0; c < 3; c++) {
        long double sum = 0, squares = 0;
        for (int64_t row = 0; row < TRAIN; row++)
            for (int at = c; at < PIXELS; at += 3) {
                long double x = pixel(SPLIT_TRAIN, row, at) / 255.0L;
                sum += x;
                squares += x * x;
            }
        long double n = (long double)TRAIN * HEIGHT * WIDTH;
        assert_true(fabsl(d.mean[c] - sum / n) < 1e-12L);
        assert_true(fabsl(d.deviation[c] - sqrtl(squares / n - sum / n * (sum / n))) < 1e-12L);
    }
    dataset_close(&d);
}

// 3.1 million white bytes are more than a lane of the sums takes at once.
static void sums_do_not_overflow(void **state)
{
    enum { SIDE = 100, COUNT = DATASET_BLOCK };
    const char *path = scratch_path(*state, "white.h5");
    static const char *const ids[] = {"white"};
    struct dataset_header header = {.count = {COUNT, 1},
                                    .height = SIDE,
                                    .width = SIDE,
                                    .class_count = 1,
                                    .class_ids = ids,
                                    .class_names = ids,
                                    .source = "test"};
    struct dataset_writer *w;
    uint8_t *pixels = malloc((size_t)COUNT * SIDE * SIDE * 3);
    int32_t labels[COUNT] = {0};
    memset(pixels, 255, (size_t)COUNT * SIDE * SIDE * 3);
    assert_int_equal(dataset_writer_create(&w, path, &header), 0);
    assert_int_equal(dataset_writer_put(w, SPLIT_TRAIN, 0, COUNT, pixels, labels), 0);
    assert_int_equal(dataset_writer_put(w, SPLIT_VAL, 0, 1, pixels, labels), 0);
    assert_int_equal(dataset_writer_commit(&w), 0);
    free(pixels);
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    for (int c = 0; c < 3; c++)
        assert_true(d.mean[c] == 1.0 && d.deviation[c] == 0.0);
    dataset_close(&d);
}

// XXH3-128 over the documented bytes in one piece, written in the canonical order.
static void fingerprint_is_as_documented(void **state)
{
    const char *path = scratch_path(*state, "d.h5");
    make_dataset(path);
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    struct {
        int32_t train_labels[TRAIN];
        uint64_t train_blocks[3];
        int32_t val_labels[VAL];
        uint64_t val_blocks[1];
    } all;
    assert_int_equal(sizeof all, 4 * TRAIN + 24 + 4 * VAL + 8); // no padding
    for (int64_t i = 0; i < TRAIN; i++)
        all.train_labels[i] = label(SPLIT_TRAIN, i);
    for (int64_t i = 0; i < VAL; i++)
        all.val_labels[i] = label(SPLIT_VAL, i);
    uint8_t *pixels = malloc(TRAIN * PIXELS);
    for (int b = 0; b < 3; b++) {
        int64_t count = b < 2 ? 128 : 44;
        assert_int_equal(dataset_read(&d, SPLIT_TRAIN, b * 128, count, pixels, NULL), 0);
        all.train_blocks[b] = XXH3_64bits(pixels, (size_t)count * PIXELS);
    }
    assert_int_equal(dataset_read(&d, SPLIT_VAL, 0, 128, pixels, NULL), 0);
    all.val_blocks[0] = XXH3_64bits(pixels, 128 * PIXELS);
    free(pixels);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(&all, sizeof all));
    char wanted[33];
    for (int i = 0; i < 16; i++)
        snprintf(wanted + 2 * i, 3, "%02x", canonical.digest[i]);
    assert_string_equal(d.fingerprint, wanted);
    dataset_close(&d);
}

static void a_damaged_block_is_named(void **state)
{
    const char *path = scratch_path(*state, "d.h5");
    make_dataset(path);
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    uint64_t train = d.file.regions[0].offset;
    dataset_close(&d);
    size_t bytes;
    uint8_t *file = scratch_load(path, &bytes);
    assert_int_equal(file[train], pixel(SPLIT_TRAIN, 0, 0));
    file[train + 200 * PIXELS] ^= 4; // row 200 is in block 1
    scratch_store(path, file, bytes);
    free(file);

    assert_int_equal(dataset_open(&d, path), 0);
    uint8_t *pixels = malloc(TRAIN * PIXELS);
    assert_int_equal(dataset_read(&d, SPLIT_TRAIN, 0, 128, pixels, NULL), 0);
    assert_int_equal(dataset_read(&d, SPLIT_TRAIN, 256, 44, pixels, NULL), 0);
    assert_int_equal(dataset_read(&d, SPLIT_TRAIN, 0, 300, pixels, NULL), RETORT_INPUT);
    assert_true(SAID(*state, "d.h5 is damaged", "block 1 of train", "128 to 255"));
    assert_int_equal(dataset_verify_blocks(&d, SPLIT_VAL), 0);
    assert_int_equal(dataset_verify_blocks(&d, SPLIT_TRAIN), RETORT_INPUT);
    assert_true(SAID(*state, "block 1 of train"));
    free(pixels);
    dataset_close(&d);
}

static void a_discarded_writer_leaves_nothing(void **state)
{
    static const char *const ids[] = {"a"};
    struct dataset_header header = {.count = {10, 10},
                                    .height = 4,
                                    .width = 4,
                                    .class_count = 1,
                                    .class_ids = ids,
                                    .class_names = ids,
                                    .source = "test"};
    struct dataset_writer *w;
    assert_int_equal(dataset_writer_create(&w, scratch_path(*state, "d.h5"), &header), 0);
    assert_int_equal(scratch_entries(*state), 1);
    dataset_writer_discard(&w);
    assert_null(w);
    assert_int_equal(scratch_entries(*state), 0);
    dataset_writer_discard(&w);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(returns_what_was_written), TEST(statistics_are_those_of_train),
        TEST(sums_do_not_overflow),     TEST(fingerprint_is_as_documented),
        TEST(a_damaged_block_is_named), TEST(a_discarded_writer_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
