// verify catches any flipped bit and any truncation; inspect tells what a file is.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "data/h5file.h"
#include "hdf5_tools/inspect.h"
#include "hdf5_tools/pack.h"
#include "hdf5_tools/verify.h"
#include "tests/data/scratch.h"
#include "tests/hdf5_tools/trees.h"

static const char *make_dataset(struct scratch *s)
{
    tree_make(scratch_path(s, "tree"), 4);
    struct pack_options o = {
        .source = scratch_path(s, "tree"), .output = scratch_path(s, "d.h5"), .seed = 1};
    assert_int_equal(pack(&o, NULL), 0);
    return o.output;
}

// Thousands of refusals: their lines go to the log alone.
static int silence(void)
{
    int kept = dup(STDERR_FILENO), nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
    return kept;
}

static void speak(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

static void every_flipped_bit_is_caught(void **state)
{
    const char *path = make_dataset(*state);
    assert_int_equal(verify(path), 0);
    size_t bytes, missed = 0;
    uint8_t *file = scratch_load(path, &bytes);
    int kept = silence();
    for (size_t at = 0; at < bytes; at += 3) {
        file[at] ^= (uint8_t)(1 << at % 8);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, file + at, 1, (off_t)at), 1);
        missed += verify(path) != RETORT_INPUT;
        file[at] ^= (uint8_t)(1 << at % 8);
        assert_int_equal(pwrite(fd, file + at, 1, (off_t)at), 1);
        close(fd);
    }
    speak(kept);
    assert_int_equal(missed, 0);
    assert_int_equal(verify(path), 0);
    free(file);
}

static void every_truncation_is_caught(void **state)
{
    const char *path = make_dataset(*state);
    size_t bytes;
    free(scratch_load(path, &bytes));
    int kept = silence();
    for (size_t length = bytes - 1; length > 50; length -= 47) {
        assert_int_equal(truncate(path, (off_t)length), 0);
        assert_int_equal(verify(path), RETORT_INPUT);
    }
    speak(kept);
}

static void damage_is_named(void **state)
{
    const char *path = make_dataset(*state);
    size_t bytes;
    uint8_t *file = scratch_load(path, &bytes);
    uint8_t *pixel = NULL; // of val: blue is 1 there, and 8 x 8 pixels of one colour follow
    for (uint8_t *p = file; p < file + bytes - 192 && !pixel; p++)
        if (p[2] == 1 && (p[0] == 5 || p[0] == 45 || p[0] == 85) && memcmp(p, p + 3, 189) == 0)
            pixel = p;
    assert_non_null(pixel);
    pixel[1] ^= 0x80;
    scratch_store(path, file, bytes);
    assert_int_equal(verify(path), RETORT_INPUT);
    assert_true(SAID(*state, "d.h5 is damaged", "block 0 of val"));
    file[40] ^= 1;
    scratch_store(path, file, bytes);
    assert_int_equal(verify(path), RETORT_INPUT);
    assert_true(SAID(*state, "d.h5 is damaged", "its first 512 bytes"));
    free(file);
}

static void inspect_describes_a_data_set(void **state)
{
    json_t *j;
    assert_int_equal(inspect_describe(make_dataset(*state), &j), 0);
    assert_string_equal(json_string_value(json_object_get(j, "kind")), "dataset");
    assert_int_equal(json_integer_value(json_object_get(j, "train")), 12);
    assert_int_equal(json_integer_value(json_object_get(j, "val")), 6);
    assert_int_equal(json_integer_value(json_object_get(j, "classes")), 3);
    assert_int_equal(json_integer_value(json_object_get(j, "width")), 8);
    // Blue is 0 in train; green is 0, 1, 2, 3.
    json_t *mean = json_object_get(j, "mean");
    assert_true(json_real_value(json_array_get(mean, 2)) == 0.0);
    assert_true(json_real_value(json_array_get(mean, 1)) == 1.5 / 255);
    json_t *attributes = json_object_get(j, "attributes");
    assert_string_equal(json_string_value(json_object_get(attributes, "source")), "tree");
    assert_string_equal(json_string_value(json_object_get(attributes, "fingerprint")),
                        json_string_value(json_object_get(j, "fingerprint")));
    json_decref(j);
}

static void inspect_lists_other_kinds(void **state)
{
    const char *path = scratch_path(*state, "c.h5");
    struct h5file f;
    const float weights[6] = {0};
    assert_int_equal(h5file_create(&f, path, H5_KIND_CHECKPOINT, H5_CHECKPOINT_VERSION), 0);
    assert_int_equal(h5_write_text(f.id, "state", "{}"), 0);
    assert_int_equal(h5_write_i64(f.id, "step", 42), 0);
    assert_int_equal(
        h5_write_array(f.id, "/deep/weights", H5T_NATIVE_FLOAT, 2, (hsize_t[]){2, 3}, weights), 0);
    assert_int_equal(h5file_commit(&f), 0);
    assert_int_equal(verify(path), 0);
    assert_true(SAID(*state, "c.h5 is whole", "checkpoint"));
    json_t *j;
    assert_int_equal(inspect_describe(path, &j), 0);
    json_t *attributes = json_object_get(j, "attributes");
    assert_int_equal(json_integer_value(json_object_get(attributes, "step")), 42);
    assert_string_equal(json_string_value(json_object_get(attributes, "state")), "{}");
    char *datasets = json_dumps(json_object_get(j, "datasets"), JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(datasets,
                        "[{\"name\":\"/deep/weights\",\"shape\":[2,3],\"type\":\"f32\"}]");
    free(datasets);
    json_decref(j);
    assert_int_equal(inspect_describe(scratch_path(*state, "none.h5"), &j), RETORT_INPUT);
    assert_true(SAID(*state, "none.h5"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_bit_is_caught),  TEST(every_truncation_is_caught), TEST(damage_is_named),
        TEST(inspect_describes_a_data_set), TEST(inspect_lists_other_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
