// Stored logits: round trip, a killed pass that goes on, what must match, the type on disk.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "data/logits.h"
#include "tests/data/scratch.h"

enum { VIEWS = 3, SAMPLES = 300, CLASSES = 7, BLOCK = 128 };

static struct logit_identity identity_of(void)
{
    return (struct logit_identity){.views = VIEWS,
                                   .samples = SAMPLES,
                                   .classes = CLASSES,
                                   .seed = 0xfedcba9876543210u,
                                   .augment = 1,
                                   .weights = 1,
                                   .dataset = "00112233445566778899aabbccddeeff",
                                   .teacher = "ffeeddccbbaa99887766554433221100",
                                   .precision = "f32"};
}

// Any f16 whose highest exponent bit is clear, so that it is finite.
static uint16_t logit_at(int64_t view, int64_t sample, int c)
{
    uint32_t word =
        random_draw(5, RANDOM_VERIFY, (uint32_t)(view * CLASSES + c), (uint64_t)sample).v[0];
    return (uint16_t)(word & 0xbfffu);
}

static uint64_t digest_at(int64_t view, int64_t sample)
{
    return ((uint64_t)view << 60) + (uint64_t)sample * 0x9e3779b97f4a7c15u;
}

static void put_rows(struct logit_writer *w, int64_t view, int64_t first, int64_t count)
{
    uint16_t logits[BLOCK][CLASSES];
    uint64_t digests[BLOCK];
    for (int64_t i = 0; i < count; i++) {
        for (int c = 0; c < CLASSES; c++)
            logits[i][c] = logit_at(view, first + i, c);
        digests[i] = digest_at(view, first + i);
    }
    assert_int_equal(logit_writer_put(w, first, count, logits[0], digests), RETORT_OK);
}

// Blocks in an order that is not the file's.
static void put_view(struct logit_writer *w, int64_t view)
{
    put_rows(w, view, 128, 128);
    put_rows(w, view, 256, SAMPLES - 256);
    put_rows(w, view, 0, 128);
}

static struct logit_writer *begin(const char *path, const struct logit_identity *id,
                                  int64_t expected_view)
{
    struct logit_writer *w = NULL;
    int64_t next = -1;
    assert_int_equal(logit_writer_create(&w, path, id, &next), RETORT_OK);
    assert_int_equal(next, expected_view);
    return w;
}

static void write_store(const char *path, const struct logit_identity *id)
{
    struct logit_writer *w = begin(path, id, 0);
    for (int64_t view = 0; view < id->views; view++) {
        put_view(w, view);
        assert_int_equal(logit_writer_end_view(w), RETORT_OK);
    }
    assert_int_equal(logit_writer_commit(&w), RETORT_OK);
    assert_null(w);
}

static void check_store(const char *path)
{
    struct logit_store s;
    static uint16_t logits[SAMPLES][CLASSES];
    static uint64_t digests[SAMPLES];
    assert_int_equal(logit_store_open(&s, path, false), RETORT_OK);
    for (int64_t view = 0; view < VIEWS; view++) {
        assert_int_equal(logit_store_read(&s, view, 0, SAMPLES, logits[0], digests), RETORT_OK);
        for (int64_t i = 0; i < SAMPLES; i++) {
            assert_int_equal(digests[i], digest_at(view, i));
            for (int c = 0; c < CLASSES; c++)
                assert_int_equal(logits[i][c], logit_at(view, i, c));
        }
    }
    assert_int_equal(logit_store_read(&s, 1, 297, 3, logits[0], NULL), RETORT_OK);
    assert_int_equal(logits[2][6], logit_at(1, 299, 6));
    assert_int_equal(logit_store_read(&s, 2, 17, 1, NULL, digests), RETORT_OK);
    assert_int_equal(digests[0], digest_at(2, 17));
    logit_store_close(&s);
}

static void test_round_trip(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    struct logit_store s;
    char why[64];
    write_store(path, &id);
    assert_int_equal(scratch_entries(*state), 1); // the parts are gone
    check_store(path);
    assert_int_equal(logit_store_open(&s, path, false), RETORT_OK);
    assert_true(logit_identity_matches(&s.identity, &id, why, sizeof why));
    assert_string_equal(s.identity.precision, "f32");
    assert_int_equal(s.identity.weights, 1);
    logit_store_close(&s);
}

static void test_rows_past_the_end_are_refused(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    struct logit_store s;
    uint16_t logits[2 * CLASSES];
    write_store(path, &id);
    assert_int_equal(logit_store_open(&s, path, false), RETORT_OK);
    assert_int_equal(logit_store_read(&s, 0, SAMPLES - 1, 2, logits, NULL), RETORT_INPUT);
    assert_int_equal(logit_store_read(&s, VIEWS, 0, 1, logits, NULL), RETORT_INPUT);
    assert_true(SAID(*state, "logits.h5", "view 3"));
    logit_store_close(&s);
}

// A file of IEEE half floats of 2 bytes, as read by anyone.
static void test_type_is_half(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    struct logit_store s;
    size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;
    float value[CLASSES];
    write_store(path, &id);
    assert_int_equal(logit_store_open(&s, path, false), RETORT_OK);
    hid_t set = H5Dopen2(s.file.id, "/logits", H5P_DEFAULT), type = H5Dget_type(set);
    assert_int_equal(H5Tget_class(type), H5T_FLOAT);
    assert_int_equal(H5Tget_size(type), 2);
    assert_int_equal(H5Tget_ebias(type), 15);
    H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits);
    assert_int_equal(sign * 10000 + exponent * 100 + exponent_bits, 15 * 10000 + 10 * 100 + 5);
    assert_int_equal(mantissa * 100 + mantissa_bits, 10);
    // 0x3555 is 1365/4096: the library converts as IEEE says.
    uint16_t half = 0x3555;
    H5Tconvert(type, H5T_NATIVE_FLOAT, 1, memcpy(value, &half, sizeof half), NULL, H5P_DEFAULT);
    assert_float_equal(value[0], 1365.0f / 4096.0f, 0.0f);
    H5Tclose(type);
    H5Dclose(set);
    logit_store_close(&s);
}

static void test_discarded_pass_goes_on(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    struct logit_writer *w = begin(path, &id, 0);
    put_view(w, 0);
    assert_int_equal(logit_writer_end_view(w), RETORT_OK);
    put_rows(w, 1, 0, 128);
    logit_writer_discard(&w);
    assert_null(w);
    assert_int_equal(scratch_entries(*state), 1);
    assert_false(file_exists(path));
    w = begin(path, &id, 1);
    for (int64_t view = 1; view < VIEWS; view++) {
        put_view(w, view);
        assert_int_equal(logit_writer_end_view(w), RETORT_OK);
    }
    assert_int_equal(logit_writer_commit(&w), RETORT_OK);
    check_store(path);
}

// A child that dies in view `views`, with the view before on disk and a file under construction.
static void die_in_view(const char *path, const struct logit_identity *id, int64_t views)
{
    pid_t child = fork();
    if (child == 0) {
        struct logit_writer *w = NULL;
        int64_t next;
        if (logit_writer_create(&w, path, id, &next) != RETORT_OK)
            _exit(1);
        for (int64_t view = next; view < views; view++) {
            put_view(w, view);
            if (logit_writer_end_view(w) != RETORT_OK)
                _exit(1);
        }
        put_rows(w, views, 0, 128);
        _exit(0); // as after a kill: nothing is cleaned up
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_killed_pass_goes_on(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    die_in_view(path, &id, 1);
    assert_int_equal(scratch_entries(*state), 2); // view 0, and a leftover
    die_in_view(path, &id, 2);
    struct logit_writer *w = begin(path, &id, 2);
    put_view(w, 2);
    assert_int_equal(logit_writer_end_view(w), RETORT_OK);
    assert_int_equal(logit_writer_commit(&w), RETORT_OK);
    assert_int_equal(scratch_entries(*state), 1);
    check_store(path);
}

// Killed after its store was whole: what is left beside it goes, and the store stays.
static void test_parts_beside_a_whole_store_go(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    write_store(path, &id);
    die_in_view(path, &id, 2);
    assert_int_equal(scratch_entries(*state), 4); // two views and a leftover beside the store
    scratch_store(scratch_path(*state, "logits.h5.view"), "x", 1); // no view of ours
    assert_int_equal(logit_parts_remove(path), RETORT_OK);
    assert_int_equal(scratch_entries(*state), 2);
    check_store(path);
}

// View 0 is damaged: it and what follows are computed again.
static void test_damaged_part_is_computed_again(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    const char *part = scratch_path(*state, "logits.h5.view0");
    struct logit_identity id = identity_of();
    die_in_view(path, &id, 2);
    size_t bytes;
    uint8_t *all = scratch_load(part, &bytes);
    all[bytes / 2] ^= 1;
    scratch_store(part, all, bytes);
    free(all);
    struct logit_writer *w = begin(path, &id, 0);
    assert_false(file_exists(part));
    assert_false(file_exists(scratch_path(*state, "logits.h5.view1")));
    logit_writer_discard(&w);
}

static void test_parts_of_another_identity_go(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    for (int change = 0; change < 5; change++) {
        die_in_view(path, &id, 2);
        struct logit_identity other = id;
        other.seed += change == 0;
        other.teacher[3] = change == 1 ? 'x' : other.teacher[3];
        other.dataset[3] = change == 2 ? 'x' : other.dataset[3];
        other.views -= change == 3 ? 2 : 0;
        other.precision[1] = change == 4 ? '6' : other.precision[1];
        struct logit_writer *w = begin(path, &other, 0);
        assert_int_equal(scratch_entries(*state), 1); // the view begun
        logit_writer_discard(&w);
        assert_int_equal(scratch_entries(*state), 0);
    }
}

static void check_differs(const struct logit_identity *wanted, const char *expected)
{
    struct logit_identity stored = identity_of();
    char why[256];
    assert_false(logit_identity_matches(&stored, wanted, why, sizeof why));
    assert_string_equal(why, expected);
}

static void test_reasons(void **state)
{
    (void)state;
    struct logit_identity id = identity_of(), stored = identity_of();
    char why[256];
    id.dataset[0] = 'x';
    check_differs(&id, "the data set");
    id.seed++;
    check_differs(&id, "the data set, the seed");
    id = identity_of();
    id.views = 2;
    check_differs(&id, "the number of views");
    id = identity_of();
    id.augment = 0;
    check_differs(&id, "the augmentation");
    id = identity_of();
    id.classes++;
    id.samples++;
    check_differs(&id, "the number of samples, the number of classes");
    id = identity_of();
    id.teacher[31] = 'x';
    check_differs(&id, "the teacher");
    id.teacher[0] = '\0'; // not known, not compared
    assert_true(logit_identity_matches(&stored, &id, why, sizeof why));
    assert_string_equal(why, "");
    id.seed++;
    char narrow[5];
    assert_false(logit_identity_matches(&stored, &id, narrow, sizeof narrow));
    assert_string_equal(narrow, "the ");
}

static void test_what_does_not_fit_f16_is_refused(void **state)
{
    struct logit_identity id = identity_of();
    struct logit_writer *w = begin(scratch_path(*state, "logits.h5"), &id, 0);
    static const uint16_t BAD[] = {0x7c00, 0xfc00, 0x7e00};
    uint16_t logits[2 * CLASSES] = {0x7bff, 0xfbff}; // the largest that fit
    uint64_t digests[2] = {0};
    assert_int_equal(logit_writer_put(w, 40, 2, logits, digests), RETORT_OK);
    for (int i = 0; i < 3; i++) {
        logits[CLASSES + 2] = BAD[i];
        assert_int_equal(logit_writer_put(w, 40, 2, logits, digests), RETORT_NUMERIC);
        assert_true(SAID(*state, "sample 41", "view 0", "f16"));
    }
    logit_writer_discard(&w);
}

static void test_a_disk_too_small_is_known_at_the_start(void **state)
{
    struct logit_identity id = identity_of();
    struct logit_writer *w = NULL;
    int64_t next;
    id.samples = (int64_t)1 << 40;
    assert_int_equal(logit_writer_create(&w, scratch_path(*state, "logits.h5"), &id, &next),
                     RETORT_WRITE);
    assert_null(w);
    assert_true(SAID(*state, "logits.h5", "MB are free"));
    assert_int_equal(scratch_entries(*state), 0);
}

static void test_other_files_are_refused(void **state)
{
    const char *path = scratch_path(*state, "logits.h5");
    struct logit_identity id = identity_of();
    struct logit_store s;
    assert_int_equal(logit_store_open(&s, path, false), RETORT_INPUT);
    assert_true(SAID(*state, "logits.h5", "No such file"));
    die_in_view(path, &id, 1); // a part holds one view of three
    assert_int_equal(logit_store_open(&s, scratch_path(*state, "logits.h5.view0"), false),
                     RETORT_INPUT);
    assert_true(SAID(*state, "logits.h5.view0", "3 views"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_rows_past_the_end_are_refused),
        TEST(test_type_is_half),
        TEST(test_discarded_pass_goes_on),
        TEST(test_killed_pass_goes_on),
        TEST(test_parts_beside_a_whole_store_go),
        TEST(test_damaged_part_is_computed_again),
        TEST(test_parts_of_another_identity_go),
        cmocka_unit_test(test_reasons),
        TEST(test_what_does_not_fit_f16_is_refused),
        TEST(test_a_disk_too_small_is_known_at_the_start),
        TEST(test_other_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
