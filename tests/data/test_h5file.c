// HDF5 files of ours: the user block, its checksum, and what a damaged or foreign file gets.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/h5file.h"
#include "tests/data/scratch.h"

enum { ROWS = 6, COLUMNS = 500 };

static void fill(uint16_t *values)
{
    for (int i = 0; i < ROWS * COLUMNS; i++)
        values[i] = (uint16_t)(i * 7 + 1);
}

// A file with attributes, an array, and a region written in two parts.
static void make_file(const char *path, const char *kind, uint32_t version)
{
    struct h5file f;
    const float weights[3] = {1.5F, -2.0F, 0.25F};
    const double mean[2] = {0.5, 0.125};
    uint16_t values[ROWS * COLUMNS];
    fill(values);
    assert_int_equal(h5file_create(&f, path, kind, version), 0);
    assert_int_equal(h5_write_text(f.id, "note", "gr\xc3\xbc\xc3\x9f"), 0);
    assert_int_equal(h5_write_text(f.id, "empty", ""), 0);
    assert_int_equal(h5_write_i64(f.id, "step", -5000000000), 0);
    assert_int_equal(h5_write_f64s(f.id, "mean", mean, 2), 0);
    assert_int_equal(
        h5_write_array(f.id, "/deep/er/weights", H5T_NATIVE_FLOAT, 1, (hsize_t[]){3}, weights), 0);
    assert_int_equal(
        h5_write_array(f.id, "/samples", H5T_NATIVE_UINT16, 2, (hsize_t[]){ROWS, COLUMNS}, NULL),
        0);
    assert_int_equal(h5_write_rows(f.id, "/samples", H5T_NATIVE_UINT16, 4, 2, values + 4 * COLUMNS),
                     0);
    assert_int_equal(h5_write_rows(f.id, "/samples", H5T_NATIVE_UINT16, 0, 4, values), 0);
    hid_t samples = H5Dopen2(f.id, "/samples", H5P_DEFAULT);
    assert_int_equal(h5file_add_region(&f, samples), 0);
    H5Dclose(samples);
    assert_int_equal(h5file_commit(&f), 0);
}

static void returns_what_was_written(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    make_file(path, "test", 3);
    struct h5file f;
    assert_int_equal(h5file_open(&f, path, "test", false), 0);
    assert_int_equal(f.version, 3);
    assert_string_equal(f.kind, "test");
    char *text;
    int64_t step;
    double mean[2];
    float weights[3];
    uint16_t values[ROWS * COLUMNS], wanted[ROWS * COLUMNS];
    fill(wanted);
    assert_int_equal(h5_read_text(&f, f.id, "note", &text), 0);
    assert_string_equal(text, "gr\xc3\xbc\xc3\x9f");
    free(text);
    assert_int_equal(h5_read_text(&f, f.id, "empty", &text), 0);
    assert_string_equal(text, "");
    free(text);
    assert_int_equal(h5_read_i64(&f, f.id, "step", &step), 0);
    assert_int_equal(step, -5000000000);
    assert_int_equal(h5_read_f64s(&f, f.id, "mean", mean, 2), 0);
    assert_true(mean[0] == 0.5 && mean[1] == 0.125);
    assert_int_equal(
        h5_read_array(&f, "/deep/er/weights", H5T_NATIVE_FLOAT, 1, (hsize_t[]){3}, weights), 0);
    assert_true(weights[0] == 1.5F && weights[1] == -2.0F && weights[2] == 0.25F);
    assert_int_equal(h5_read_rows(&f, "/samples", H5T_NATIVE_UINT16, 3, 3, values), 0);
    assert_memory_equal(values, wanted + 3 * COLUMNS, 3 * COLUMNS * sizeof *values);
    h5file_close(&f);
    h5file_close(&f); // a closed handle is taken
}

static uint64_t little_endian(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

// The layout as the header tells it, read without our own decoder.
static void user_block_is_as_documented(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    make_file(path, "test", 3);
    size_t bytes;
    uint8_t *file = scratch_load(path, &bytes);
    assert_memory_equal(file, "RETORT\r\ntest\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    assert_int_equal(little_endian(file + 24, 4), 3);
    assert_int_equal(little_endian(file + 28, 4), 1);
    assert_int_equal(little_endian(file + 32, 8), bytes);
    size_t offset = little_endian(file + 48, 8), length = little_endian(file + 56, 8);
    uint16_t wanted[ROWS * COLUMNS];
    fill(wanted);
    assert_int_equal(length, sizeof wanted);
    assert_memory_equal(file + offset, wanted, sizeof wanted);
    assert_memory_equal(file + 512, "\x89HDF\r\n\x1a\n", 8);
    assert_true(little_endian(file + 504, 8) == XXH3_64bits(file, 504));
    XXH3_state_t *sum = XXH3_createState();
    XXH3_64bits_reset(sum);
    XXH3_64bits_update(sum, file + 512, offset - 512);
    XXH3_64bits_update(sum, file + offset + length, bytes - offset - length);
    assert_true(little_endian(file + 40, 8) == XXH3_64bits_digest(sum));
    XXH3_freeState(sum);
    free(file);
}

static void same_content_makes_same_bytes(void **state)
{
    const char *paths[2] = {scratch_path(*state, "a.h5"), scratch_path(*state, "b.h5")};
    size_t bytes[2];
    uint8_t *files[2];
    for (int i = 0; i < 2; i++) {
        make_file(paths[i], "test", 3);
        files[i] = scratch_load(paths[i], &bytes[i]);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(files[0], files[1], bytes[0]);
    free(files[0]);
    free(files[1]);
}

static void overlapping_regions_are_refused(void **state)
{
    (void)state;
    struct userblock u = {.file_bytes = 2000, .region_count = 2};
    u.regions[0] = (struct userblock_region){1000, 500};
    u.regions[1] = (struct userblock_region){600, 400};
    assert_true(userblock_order_regions(&u));
    assert_int_equal(u.regions[0].offset, 600);
    u.regions[0].length = 401;
    assert_false(userblock_order_regions(&u));
    u.regions[0] = (struct userblock_region){500, 20}; // in the user block
    assert_false(userblock_order_regions(&u));
    u.regions[0] = (struct userblock_region){600, UINT64_MAX - 10}; // wraps around
    assert_false(userblock_order_regions(&u));
}

static int open_quietly(const char *path)
{
    struct h5file f;
    int rc = h5file_open(&f, path, "test", true);
    h5file_close(&f);
    return rc;
}

static void every_flipped_bit_outside_regions_is_caught(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    make_file(path, "test", 3);
    size_t bytes, caught = 0, tried = 0;
    uint8_t *file = scratch_load(path, &bytes);
    size_t offset = little_endian(file + 48, 8), length = little_endian(file + 56, 8);
    for (size_t at = 0; at < bytes; at += at < 520 ? 1 : 13) {
        if (at >= offset && at < offset + length)
            continue; // the owner of a region has checksums of its own
        file[at] ^= (uint8_t)(1 << at % 8);
        scratch_store(path, file, bytes);
        file[at] ^= (uint8_t)(1 << at % 8);
        tried++;
        caught += open_quietly(path) == RETORT_INPUT;
    }
    assert_int_equal(caught, tried);
    assert_true(tried > 600);
    file[offset] ^= 1;
    scratch_store(path, file, bytes);
    assert_int_equal(open_quietly(path), 0);
    free(file);
    size_t said;
    free(scratch_load(((struct scratch *)*state)->log, &said));
    assert_int_equal(said, 0); // quiet
}

static void every_truncation_is_caught(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    make_file(path, "test", 3);
    size_t bytes;
    uint8_t *file = scratch_load(path, &bytes);
    for (size_t kept = 0; kept < bytes; kept += 37) {
        scratch_store(path, file, kept);
        assert_int_equal(open_quietly(path), RETORT_INPUT);
    }
    uint8_t *longer = calloc(1, bytes + 1);
    memcpy(longer, file, bytes);
    scratch_store(path, longer, bytes + 1);
    assert_int_equal(open_quietly(path), RETORT_INPUT);
    free(longer);
    free(file);
}

static void foreign_files_are_refused_by_name(void **state)
{
    const char *text = scratch_path(*state, "text.h5"), *plain = scratch_path(*state, "plain.h5"),
               *other = scratch_path(*state, "other.h5"), *newer = scratch_path(*state, "newer.h5");
    struct h5file f;
    assert_int_equal(h5file_open(&f, scratch_path(*state, "none.h5"), NULL, false), RETORT_INPUT);
    assert_true(SAID(*state, "none.h5", "No such file"));
    assert_int_equal(h5file_open(&f, ((struct scratch *)*state)->folder, NULL, false),
                     RETORT_INPUT);
    assert_true(SAID(*state, "is not a file"));
    scratch_store(text, "hello", 5);
    assert_int_equal(h5file_open(&f, text, H5_KIND_DATASET, false), RETORT_INPUT);
    assert_true(SAID(*state, "text.h5", "not a file that retort wrote", "retort pack"));
    H5Fclose(H5Fcreate(plain, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    assert_int_equal(h5file_open(&f, plain, NULL, false), RETORT_INPUT);
    assert_true(SAID(*state, "plain.h5", "HDF5 file, but not one that retort wrote"));
    make_file(other, H5_KIND_LOGITS, H5_LOGITS_VERSION);
    assert_int_equal(h5file_open(&f, other, H5_KIND_DATASET, false), RETORT_INPUT);
    assert_true(SAID(*state, "other.h5", "is a file of logits, not a data set"));
    make_file(newer, H5_KIND_CHECKPOINT, H5_CHECKPOINT_VERSION + 1);
    assert_int_equal(h5file_open(&f, newer, NULL, false), RETORT_INPUT);
    assert_true(SAID(*state, "newer.h5", "format version 2"));
}

static void other_shapes_and_types_are_refused(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    make_file(path, "test", 3);
    struct h5file f;
    assert_int_equal(h5file_open(&f, path, NULL, false), 0);
    float weights[4];
    double mean[3];
    int64_t step;
    char *text;
    assert_int_equal(
        h5_read_array(&f, "/deep/er/weights", H5T_NATIVE_FLOAT, 1, (hsize_t[]){4}, weights),
        RETORT_INPUT);
    assert_true(SAID(*state, "a.h5", "/deep/er/weights", "another shape"));
    assert_int_equal(
        h5_read_array(&f, "/deep/er/weights", H5T_NATIVE_INT32, 1, (hsize_t[]){3}, weights),
        RETORT_INPUT);
    assert_true(SAID(*state, "another type"));
    assert_int_equal(h5_read_rows(&f, "/samples", H5T_NATIVE_UINT16, 5, 2, weights), RETORT_INPUT);
    assert_true(SAID(*state, "/samples", "no 2 rows from row 5"));
    assert_int_equal(h5_read_rows(&f, "/nothing", H5T_NATIVE_UINT16, 0, 1, weights), RETORT_INPUT);
    assert_true(SAID(*state, "has no dataset /nothing"));
    assert_int_equal(h5_read_f64s(&f, f.id, "mean", mean, 3), RETORT_INPUT);
    assert_int_equal(h5_read_i64(&f, f.id, "mean", &step), RETORT_INPUT);
    assert_int_equal(h5_read_text(&f, f.id, "step", &text), RETORT_INPUT);
    assert_null(text);
    assert_true(SAID(*state, "attribute mean", "attribute step"));
    assert_int_equal(h5_read_i64(&f, f.id, "nothing", &step), RETORT_INPUT);
    assert_true(SAID(*state, "no attribute nothing"));
    h5file_close(&f);
}

static void a_discarded_file_leaves_nothing(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    struct h5file f;
    assert_int_equal(h5file_create(&f, path, "test", 1), 0);
    assert_int_equal(scratch_entries(*state), 1); // the partial file
    assert_int_equal(h5_write_i64(f.id, "step", 1), 0);
    h5file_close(&f);
    assert_int_equal(scratch_entries(*state), 0);
    assert_int_equal(h5file_create(&f, scratch_path(*state, "no/such/folder/a.h5"), "test", 1),
                     RETORT_WRITE);
    assert_true(SAID(*state, "no/such/folder/a.h5", "No such file or directory"));
    h5file_close(&f);
}

// Writes with `limit` bytes per file allowed, as on a full disk; the step that fails differs.
static int write_limited(const char *path, rlim_t limit)
{
    struct rlimit r = {limit, limit};
    static const uint8_t data[100000];
    struct h5file f;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &r);
    int rc = h5file_create(&f, path, "test", 1);
    if (rc == 0)
        rc = h5_write_array(f.id, "/data", H5T_NATIVE_UINT8, 1, (hsize_t[]){sizeof data}, data);
    for (int i = 0; rc == 0 && i < 40; i++) { // structure, held in memory until the end
        char name[16];
        snprintf(name, sizeof name, "/g%d/x", i);
        rc = h5_write_array(f.id, name, H5T_NATIVE_UINT8, 1, (hsize_t[]){1}, data);
    }
    if (rc == 0)
        return h5file_commit(&f);
    h5file_close(&f);
    return rc;
}

static void a_full_disk_leaves_nothing(void **state)
{
    const char *path = scratch_path(*state, "a.h5");
    // Full at the first byte, in the data, in the structure, at the flush.
    static const rlim_t limits[] = {100, 5000, 60000, 104000, 110000, 120000, 126000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        pid_t child = fork(); // limits can't be raised again
        if (child == 0)
            _exit(write_limited(path, limits[i])); // exit handlers are the parent's
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), RETORT_WRITE);
        assert_int_equal(scratch_entries(*state), 0);
        truncate(((struct scratch *)*state)->log, 0);
    }
    pid_t child = fork();
    if (child == 0)
        _exit(write_limited(path, 10000000));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(scratch_entries(*state), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(returns_what_was_written),
        TEST(user_block_is_as_documented),
        TEST(same_content_makes_same_bytes),
        TEST(overlapping_regions_are_refused),
        TEST(every_flipped_bit_outside_regions_is_caught),
        TEST(every_truncation_is_caught),
        TEST(foreign_files_are_refused_by_name),
        TEST(other_shapes_and_types_are_refused),
        TEST(a_discarded_file_leaves_nothing),
        TEST(a_full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
