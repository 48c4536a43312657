// Files of ours whose checksum fits and whose structure claims what is not there: nothing is
// allocated for it, no other file is read for it, and no time is spent on it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "data/checkpoint.h"
#include "data/logits.h"
#include "hdf5_tools/inspect.h"
#include "tests/data/scratch.h"

static const hsize_t MANY[1] = {(hsize_t)1 << 40}, FEW[1] = {4};

// A dataset of i32 as the library makes them, with these properties.
static void add(hid_t file, const char *name, const hsize_t *dims, hid_t properties)
{
    hid_t space = H5Screate_simple(1, dims, NULL);
    hid_t id = H5Dcreate2(file, name, H5T_STD_I32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(id >= 0);
    H5Dclose(id);
    H5Sclose(space);
}

static void make_file(const char *path, const char *elsewhere)
{
    struct h5file f;
    hid_t dcpl;
    assert_int_equal(h5file_create(&f, path, "test", 1), 0);
    dcpl = H5Pcreate(H5P_DATASET_CREATE); // the space is not given before values come
    add(f.id, "/many", MANY, dcpl);
    H5Pset_chunk(dcpl, 1, FEW);
    add(f.id, "/chunked", FEW, dcpl);
    H5Pclose(dcpl);
    dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(dcpl, elsewhere, 0, H5F_UNLIMITED);
    add(f.id, "/outside", FEW, dcpl);
    H5Pclose(dcpl);
    assert_true(H5Lcreate_external(elsewhere, "/deep", f.id, "/link", H5P_DEFAULT, H5P_DEFAULT) >=
                0);
    assert_int_equal(h5_write_array(f.id, "/deep", H5T_NATIVE_INT32, 1, FEW, (int32_t[4]){0}), 0);
    assert_int_equal(h5file_commit(&f), 0);
}

static void only_what_lies_in_the_file_is_read(void **state)
{
    struct scratch *s = *state;
    const char *path = scratch_path(s, "a.h5"), *other = scratch_path(s, "b.h5");
    static const char *const refused[] = {"/many", "/chunked", "/outside"};
    int32_t values[4];
    struct h5file f;
    make_file(other, "/dev/null");
    make_file(path, other);
    assert_int_equal(h5file_open(&f, path, "test", false), 0);
    assert_int_equal(h5_read_array(&f, "/deep", H5T_NATIVE_INT32, 1, FEW, values), 0);
    for (int i = 0; i < 3; i++) {
        int rank;
        hsize_t dims[8];
        assert_int_equal(h5_shape(&f, refused[i], &rank, dims), RETORT_INPUT);
        assert_true(SAID(s, "a.h5: the values that", refused[i], "claims are not all in it"));
        assert_int_equal(h5_read_rows(&f, refused[i], H5T_NATIVE_INT32, 0, 4, values),
                         RETORT_INPUT);
        assert_true(SAID(s, "claims are not all in it"));
    }
    assert_int_equal(h5_read_array(&f, "/link", H5T_NATIVE_INT32, 1, FEW, values), RETORT_INPUT);
    assert_true(SAID(s, "a.h5 has no dataset /link"));
    h5file_close(&f);
}

// A whole checkpoint and whole logits but for one attribute, opened quietly and not.
static void quiet_prints_nothing(void **state)
{
    struct scratch *s = *state;
    const char *path = scratch_path(s, "a.h5");
    const float weights[4] = {0};
    struct h5file f;
    struct checkpoint c;
    struct logit_store l;
    assert_int_equal(h5file_create(&f, path, H5_KIND_CHECKPOINT, 1), 0);
    assert_int_equal(h5_write_array(f.id, "/weights", H5T_NATIVE_FLOAT, 1, FEW, weights), 0);
    assert_int_equal(h5file_commit(&f), 0);
    assert_int_equal(checkpoint_read(&c, path, true), RETORT_INPUT);
    assert_false(SAID(s, "error"));
    assert_int_equal(checkpoint_read(&c, path, false), RETORT_INPUT);
    assert_true(SAID(s, "a.h5 has no attribute trainable"));
    assert_int_equal(h5file_create(&f, path, H5_KIND_LOGITS, 1), 0);
    assert_int_equal(h5file_commit(&f), 0);
    assert_int_equal(logit_store_open(&l, path, true), RETORT_INPUT);
    assert_false(SAID(s, "error"));
    assert_int_equal(logit_store_open(&l, path, false), RETORT_INPUT);
    assert_true(SAID(s, "a.h5 has no attribute views"));
}

// Four links of a group to itself: 4^16 paths of 16 links.
static void groups_in_themselves_are_listed_in_part(void **state)
{
    struct scratch *s = *state;
    const char *path = scratch_path(s, "a.h5");
    struct h5file f;
    json_t *described;
    assert_int_equal(h5file_create(&f, path, "test", 1), 0);
    for (char name[2] = "a"; name[0] < 'e'; name[0]++)
        assert_true(H5Lcreate_hard(f.id, ".", f.id, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_int_equal(h5_write_array(f.id, "/z", H5T_NATIVE_INT32, 1, FEW, (int32_t[4]){0}), 0);
    assert_int_equal(h5file_commit(&f), 0);
    double start = clock_seconds();
    assert_int_equal(inspect_describe(path, &described), RETORT_OK);
    assert_in_range(json_array_size(json_object_get(described, "datasets")), 1, 1000);
    json_decref(described);
    assert_true(clock_seconds() - start < 20);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_what_lies_in_the_file_is_read),
        TEST(quiet_prints_nothing),
        TEST(groups_in_themselves_are_listed_in_part),
    };
    return cmocka_run_group_tests_name("claims", tests, NULL, NULL);
}
