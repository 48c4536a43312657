// The drawn data set: TinyImageNet's layout, the same bytes for the same seed, packable.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "data/dataset.h"
#include "hdf5_tools/draw.h"
#include "hdf5_tools/pack.h"
#include "hdf5_tools/synth.h"
#include "tests/data/scratch.h"

static int synth_into(const struct scratch *s, const char *name, uint64_t seed)
{
    struct synth_options o = {.folder = scratch_path(s, name),
                              .classes = 4,
                              .per_class = 3,
                              .val_per_class = 2,
                              .size = 16,
                              .seed = seed};
    return synth(&o);
}

static bool same_file(const struct scratch *s, const char *a, const char *b)
{
    size_t bytes[2];
    uint8_t *x = scratch_load(scratch_path(s, a), &bytes[0]);
    uint8_t *y = scratch_load(scratch_path(s, b), &bytes[1]);
    bool same = bytes[0] == bytes[1] && memcmp(x, y, bytes[0]) == 0;
    free(x);
    free(y);
    return same;
}

static void the_seed_decides(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(synth_into(s, "a", 1), 0);
    assert_int_equal(synth_into(s, "b", 1), 0);
    assert_int_equal(synth_into(s, "c", 2), 0);
    assert_true(same_file(s, "a/train/s003/images/s003_2.JPEG", "b/train/s003/images/s003_2.JPEG"));
    assert_true(same_file(s, "a/val/images/val_7.JPEG", "b/val/images/val_7.JPEG"));
    assert_false(same_file(s, "a/val/images/val_7.JPEG", "c/val/images/val_7.JPEG"));
    assert_false(same_file(s, "a/val/images/val_3.JPEG", "a/val/images/val_7.JPEG"));
    assert_true(same_file(s, "a/words.txt", "c/words.txt"));
    assert_int_equal(scratch_entries(s), 3); // no partial folder
}

static void it_packs(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(synth_into(s, "a", 1), 0);
    struct pack_options o = {
        .source = scratch_path(s, "a"), .output = scratch_path(s, "a.h5"), .seed = 1};
    assert_int_equal(pack(&o, NULL), 0);
    struct dataset d;
    assert_int_equal(dataset_open(&d, o.output), 0);
    assert_int_equal(d.count[SPLIT_TRAIN], 12);
    assert_int_equal(d.count[SPLIT_VAL], 8);
    assert_int_equal(d.class_count, 4);
    assert_int_equal(d.height, 16);
    int32_t labels[8];
    int each[4] = {0};
    assert_int_equal(dataset_read(&d, SPLIT_VAL, 0, 8, NULL, labels), 0);
    for (int i = 0; i < 8; i++)
        each[labels[i]]++;
    for (int c = 0; c < 4; c++)
        assert_int_equal(each[c], 2);
    char *name;
    assert_int_equal(dataset_class_name(&d, 3, &name), 0);
    assert_string_equal(name, "checked square");
    free(name);
    dataset_close(&d);
}

static void a_full_folder_is_refused(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(folder_create(scratch_path(s, "a")), 0);
    assert_int_equal(synth_into(s, "a", 1), 0); // empty: fine
    assert_int_equal(synth_into(s, "a", 1), RETORT_WRITE);
    assert_true(SAID(s, "/a is not empty"));
    scratch_store(scratch_path(s, "file"), "x", 1);
    assert_int_equal(synth_into(s, "file", 1), RETORT_WRITE);
    assert_int_equal(synth_into(s, "file/below", 1), RETORT_WRITE);
}

// Pictures of one shape differ from each other more than from another shape's: it can't be told by
// the average colour.
static void colour_does_not_give_the_shape_away(void **state)
{
    (void)state;
    enum { SIDE = 32, EACH = 60 };
    double mean[2][3] = {{0}}, squares[3] = {0};
    for (int shape = 0; shape < 2; shape++)
        for (int k = 0; k < EACH; k++) {
            uint8_t pixels[SIDE * SIDE * 3];
            struct drawing d = {.shape = shape,
                                .texture = 0,
                                .size = SIDE,
                                .seed = 3,
                                .number = (uint64_t)(shape * EACH + k)};
            draw_picture(&d, pixels);
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                for (int i = c; i < SIDE * SIDE * 3; i += 3)
                    sum += pixels[i];
                sum /= SIDE * SIDE;
                mean[shape][c] += sum / EACH;
                squares[c] += sum * sum / (2 * EACH);
            }
        }
    for (int c = 0; c < 3; c++) {
        double both = (mean[0][c] + mean[1][c]) / 2, apart = mean[0][c] - mean[1][c];
        double variance = squares[c] - both * both;
        assert_true(variance > 10 * 10); // of 255
        assert_true(apart * apart < variance);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_seed_decides),
        TEST(it_packs),
        TEST(a_full_folder_is_refused),
        cmocka_unit_test(colour_does_not_give_the_shape_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
