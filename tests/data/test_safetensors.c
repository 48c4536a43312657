// safetensors files: what is written, byte by byte, and what is refused when read.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "data/safetensors.h"
#include "tests/data/scratch.h"

// A file in memory of exactly its bytes, so that a sanitizer sees reading past them.
static char *file_of(uint64_t length, const char *header, size_t header_bytes, size_t value_bytes,
                     size_t *bytes)
{
    *bytes = sizeof length + header_bytes + value_bytes;
    char *file = malloc(*bytes + 1);
    assert_non_null(file);
    memcpy(file, &length, sizeof length);
    memcpy(file + sizeof length, header, header_bytes);
    for (size_t i = 0; i < value_bytes; i++)
        file[sizeof length + header_bytes + i] = (char)i;
    return realloc(file, *bytes);
}

static int parse(const char *header, size_t value_bytes, struct safetensors *out, char **file)
{
    size_t bytes;
    *file = file_of(strlen(header), header, strlen(header), value_bytes, &bytes);
    return safetensors_parse(out, *file, bytes, "in.safetensors");
}

static void it_reads_what_the_format_says(void **state)
{
    (void)state;
    struct safetensors s;
    char *file;
    // Out of order, with an empty tensor, a number alone, a narrow type, and blanks behind.
    int rc = parse(
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
        "\"__metadata__\":{\"format\":\"pt\",\"größe\":\"64\"},"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[8,8]},"
        "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"h\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[32,34]}}   ",
        34, &s, &file);
    assert_int_equal(rc, RETORT_OK);
    assert_int_equal(s.count, 4);
    static const char *const order[] = {"a", "none", "b", "h"};
    for (int i = 0; i < 4; i++)
        assert_string_equal(s.tensors[i].name, order[i]);
    const struct safetensor *b = safetensors_find(&s, "b");
    assert_non_null(b);
    assert_int_equal(b->type, SAFETENSORS_F32);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(*(const uint8_t *)b->data, 8);
    assert_int_equal(safetensors_find(&s, "a")->rank, 0);
    assert_int_equal(safetensors_find(&s, "h")->bytes, 2);
    assert_null(safetensors_find(&s, "__metadata__"));
    assert_string_equal(safetensors_text(&s, "größe"), "64");
    assert_null(safetensors_text(&s, "arch"));
    safetensors_free(&s);
    free(file);
}

static void it_refuses_headers_that_make_no_sense(void **state)
{
    static const struct {
        const char *header;
        size_t value_bytes;
        const char *says;
    } cases[] = {
        {"[]", 0, "no JSON header"},
        {" {}", 0, "no JSON header"},
        {"{\"a\":}", 0, "no JSON"},
        {"{}{}", 0, "no JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4, "no JSON"},
        {"{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "duplicate"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "duplicate"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"{\"__metadata__\":{\"size\":64}}", 0, "\"size\" of its __metadata__"},
        {"{\"a\":4}", 0, "\"a\" is described by no JSON object"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype"},
        {"{\"a\":{\"dtype\":32,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "not known"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "sizes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4,
         "8 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         "larger than any memory"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
         "larger than any memory"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "no range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,9223372036854775808]}}", 4,
         "no JSON"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "past the end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "don't fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "besides"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         12, "\"b\" overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}}",
         4, "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "1 bytes"},
        {"{}", 4, "4 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct safetensors s;
        char *file;
        assert_int_equal(parse(cases[i].header, cases[i].value_bytes, &s, &file), RETORT_INPUT);
        if (!SAID(*state, "in.safetensors", cases[i].says))
            fail_msg("not said: %s of %s", cases[i].says, cases[i].header);
        assert_null(s.tensors);
        free(file);
    }
}

static void it_refuses_files_that_are_cut_off(void **state)
{
    static const char header[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}";
    struct safetensors s;
    size_t bytes;
    char *file = file_of(sizeof header - 1, header, sizeof header - 1, 12, &bytes);
    for (size_t kept = 0; kept < bytes; kept++) {
        char *cut = malloc(kept + 1);
        memcpy(cut, file, kept);
        cut = realloc(cut, kept ? kept : 1);
        assert_int_equal(safetensors_parse(&s, cut, kept, "cut.safetensors"), RETORT_INPUT);
        assert_true(SAID(*state, "cut.safetensors"));
        free(cut);
    }
    assert_int_equal(safetensors_parse(&s, file, bytes, "whole"), RETORT_OK);
    safetensors_free(&s);
    free(file);
}

static void it_refuses_lengths_of_headers_that_cannot_be(void **state)
{
    static const uint64_t lengths[] = {
        0, 3, 1000, SAFETENSORS_HEADER_LIMIT + 1, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct safetensors s;
        size_t bytes;
        char *file = file_of(lengths[i], "{}", 2, 0, &bytes);
        assert_int_equal(safetensors_parse(&s, file, bytes, "in.safetensors"), RETORT_INPUT);
        assert_true(SAID(*state, "in.safetensors"));
        free(file);
    }
}

static void it_writes_known_bytes_and_reads_them_back(void **state)
{
    const char *path = scratch_path(*state, "out.safetensors");
    const float values[2] = {1.0f, -2.5f};
    const int64_t steps = 258;
    const struct safetensor tensors[2] = {
        {"n", SAFETENSORS_I64, 0, {0}, &steps, sizeof steps},
        {"w", SAFETENSORS_F32, 2, {1, 2}, values, sizeof values},
    };
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    assert_int_equal(safetensors_write(path, metadata, tensors, 2), RETORT_OK);
    json_decref(metadata);
    static const char expected[] =
        "\x90\0\0\0\0\0\0\0"
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]}}    "
        "\x02\x01\0\0\0\0\0\0"
        "\0\0\x80\x3f\0\0\x20\xc0";
    size_t bytes;
    uint8_t *file = scratch_load(path, &bytes);
    assert_int_equal(bytes, sizeof expected - 1);
    assert_memory_equal(file, expected, bytes);
    free(file);

    struct safetensors s;
    assert_int_equal(safetensors_read(&s, path), RETORT_OK);
    assert_string_equal(safetensors_text(&s, "format"), "pt");
    assert_memory_equal(safetensors_find(&s, "w")->data, values, sizeof values);
    safetensors_free(&s);
    assert_int_equal(safetensors_read(&s, scratch_path(*state, "nowhere")), RETORT_INPUT);
    assert_true(SAID(*state, "nowhere", "No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_reads_what_the_format_says),
        cmocka_unit_test_setup_teardown(it_refuses_headers_that_make_no_sense, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(it_refuses_files_that_are_cut_off, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(it_refuses_lengths_of_headers_that_cannot_be, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(it_writes_known_bytes_and_reads_them_back, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
