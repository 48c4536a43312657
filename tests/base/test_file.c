// Files are whole or not there, and what fails leaves nothing behind.

// cmocka needs these before it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/base/capture.h"

static void test_path_join(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a//", "/b", "a/b"},
        {"/", "b", "/b"},  {"", "b", "b"},     {"", "/b", "/b"},
    };
    char out[PATH_CAPACITY];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(path_join(out, cases[i][0], cases[i][1]), 0);
        assert_string_equal(out, cases[i][2]);
    }
    assert_int_equal(path_join(out, "a", "b"), 0);
    assert_int_equal(path_join(out, out, "c"), 0); // in place
    assert_string_equal(out, "a/b/c");
}

static void test_path_join_at_the_limit(void **state)
{
    (void)state;
    char name[PATH_CAPACITY], out[PATH_CAPACITY];
    memset(name, 'n', sizeof name);
    name[PATH_CAPACITY - 3] = '\0';
    assert_int_equal(path_join(out, "a", name), 0); // 4095 bytes
    assert_int_equal(strlen(out), PATH_CAPACITY - 1);
    capture_begin(STDERR_FILENO);
    int rc = path_join(out, "ab", name);
    assert_non_null(strstr(capture_end(), "is longer than 4095 bytes; use a shorter one\n"));
    assert_int_equal(rc, RETORT_USAGE);
}

static void test_write_whole_and_read(void **state)
{
    (void)state;
    const char *folder = scratch_create();
    char path[PATH_CAPACITY], *text;
    size_t bytes;
    path_join(path, folder, "f");
    assert_int_equal(file_size(path), -1);
    assert_false(file_exists(path));
    assert_int_equal(file_write_whole(path, "old", 3), 0);
    assert_int_equal(file_write_whole(path, "ne\0w", 4), 0);
    assert_int_equal(file_size(path), 4);
    assert_int_equal(file_read(path, 4, &text, &bytes), 0);
    assert_int_equal(bytes, 4);
    assert_memory_equal(text, "ne\0w", 5);
    free(text);
    assert_int_equal(folder_entries(folder), 1);
    scratch_remove();
}

static void test_read_refuses(void **state)
{
    (void)state;
    const char *folder = scratch_create();
    char path[PATH_CAPACITY], expected[PATH_CAPACITY + 128], *text;
    size_t bytes;
    path_join(path, folder, "f");
    capture_begin(STDERR_FILENO);
    assert_int_equal(file_read(path, 9, &text, &bytes), RETORT_INPUT);
    snprintf(expected, sizeof expected,
             "error: base/file.c: cannot open %s: No such file or "
             "directory\n",
             path);
    assert_string_equal(capture_end(), expected);
    assert_null(text);
    assert_int_equal(file_write_whole(path, "0123456789", 10), 0);
    capture_begin(STDERR_FILENO);
    assert_int_equal(file_read(path, 9, &text, &bytes), RETORT_INPUT);
    snprintf(expected, sizeof expected,
             "error: base/file.c: %s is larger than the 9 bytes allowed for it\n", path);
    assert_string_equal(capture_end(), expected);
    assert_null(text);
    capture_begin(STDERR_FILENO);
    assert_int_equal(file_read(folder, 9, &text, &bytes), RETORT_INPUT);
    assert_non_null(strstr(capture_end(), ": Is a directory\n"));
    scratch_remove();
}

static void test_read_over_many_pieces(void **state)
{
    (void)state;
    enum { BYTES = 100001 };
    char path[PATH_CAPACITY], *text, *written = malloc(BYTES);
    size_t bytes;
    assert_non_null(written);
    for (size_t i = 0; i < BYTES; i++)
        written[i] = (char)(i * 7 % 251);
    path_join(path, scratch_create(), "f");
    assert_int_equal(file_write_whole(path, written, BYTES), 0);
    assert_int_equal(file_read(path, BYTES, &text, &bytes), 0);
    assert_int_equal(bytes, BYTES);
    assert_memory_equal(text, written, BYTES);
    free(text);
    free(written);
    scratch_remove();
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_partial_is_beside_its_file_until_committed(void **state)
{
    (void)state;
    const char *folder = scratch_create();
    char path[PATH_CAPACITY], partial[PATH_CAPACITY], expected[PATH_CAPACITY + 64], *text;
    size_t bytes;
    path_join(path, folder, "f.h5");
    assert_int_equal(file_write_whole(path, "old", 3), 0);
    assert_int_equal(partial_path(partial, path), 0);
    snprintf(expected, sizeof expected, "%s.%ld.partial", path, (long)getpid());
    assert_string_equal(partial, expected);

    put(partial, "half");
    partial_discard(partial);
    assert_int_equal(folder_entries(folder), 1);
    assert_int_equal(file_size(path), 3);

    put(partial, "whole");
    assert_int_equal(partial_commit(partial, path), 0);
    assert_int_equal(folder_entries(folder), 1);
    assert_int_equal(file_read(path, 99, &text, &bytes), 0);
    assert_string_equal(text, "whole");
    free(text);
    scratch_remove();
}

static void test_failed_commit_leaves_nothing_behind(void **state)
{
    (void)state;
    const char *folder = scratch_create();
    char path[PATH_CAPACITY], partial[PATH_CAPACITY];
    path_join(path, folder, "f");
    path_join(partial, folder, "f.1.partial");
    assert_int_equal(mkdir(path, 0777), 0); // a file cannot take a folder's place
    put(partial, "whole");
    capture_begin(STDERR_FILENO);
    assert_int_equal(partial_commit(partial, path), RETORT_WRITE);
    assert_non_null(strstr(capture_end(), "error: base/file.c: cannot rename "));
    assert_false(file_exists(partial));
    assert_int_equal(folder_entries(folder), 1);
    capture_begin(STDERR_FILENO);
    assert_int_equal(file_write_whole(path, "x", 1), RETORT_WRITE);
    capture_end();
    assert_int_equal(folder_entries(folder), 1);
    scratch_remove();
}

static void test_full_disk_is_named(void **state)
{
    (void)state;
    if (!file_exists("/dev/full"))
        skip();
    // /dev/full refuses every write as a full disk does; its flush does not.
    char path[PATH_CAPACITY], partial[PATH_CAPACITY], expected[PATH_CAPACITY + 128];
    const char *folder = scratch_create();
    path_join(path, folder, "f");
    partial_path(partial, path);
    assert_int_equal(symlink("/dev/full", partial), 0);
    capture_begin(STDERR_FILENO);
    assert_int_equal(file_write_whole(path, "x", 1), RETORT_WRITE);
    snprintf(expected, sizeof expected,
             "error: base/file.c: cannot write %s: No space left on device\n", path);
    assert_string_equal(capture_end(), expected);
    assert_int_equal(folder_entries(folder), 0);
    scratch_remove();
}

static void test_what_is_no_file_stays(void **state)
{
    (void)state;
    char pipe[PATH_CAPACITY], link[PATH_CAPACITY], expected[PATH_CAPACITY + 128];
    struct stat info;
    const char *folder = scratch_create();
    path_join(pipe, folder, "pipe");
    path_join(link, folder, "link");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(symlink("/dev/null", link), 0);
    const char *const paths[] = {pipe, link, folder};
    for (size_t i = 0; i < 3; i++) {
        capture_begin(STDERR_FILENO);
        assert_int_equal(file_write_whole(paths[i], "x", 1), RETORT_WRITE);
        snprintf(expected, sizeof expected,
                 "error: base/file.c: cannot write %s: it is %s; name a file\n", paths[i],
                 i == 2 ? "a folder" : "a device or a pipe");
        assert_string_equal(capture_end(), expected);
        assert_false(file_offer(paths[i], "x", 1));
    }
    assert_true(lstat(pipe, &info) == 0 && S_ISFIFO(info.st_mode));
    assert_true(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    assert_int_equal(folder_entries(folder), 2);
    scratch_remove();
}

static void test_folder_create(void **state)
{
    (void)state;
    char path[PATH_CAPACITY], below[PATH_CAPACITY], expected[PATH_CAPACITY + 128];
    path_join(path, scratch_create(), "a/b//c/");
    assert_int_equal(folder_create(path), 0);
    assert_int_equal(folder_create(path), 0); // there already
    assert_int_equal(folder_entries(path), 0);
    path_join(below, path, "file");
    put(below, "");
    capture_begin(STDERR_FILENO);
    assert_int_equal(folder_create(below), RETORT_WRITE);
    snprintf(expected, sizeof expected,
             "error: base/file.c: cannot create the folder %s: File "
             "exists\n",
             below);
    assert_string_equal(capture_end(), expected);
    scratch_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_join),
        cmocka_unit_test(test_path_join_at_the_limit),
        cmocka_unit_test(test_write_whole_and_read),
        cmocka_unit_test(test_read_refuses),
        cmocka_unit_test(test_read_over_many_pieces),
        cmocka_unit_test(test_partial_is_beside_its_file_until_committed),
        cmocka_unit_test(test_failed_commit_leaves_nothing_behind),
        cmocka_unit_test(test_full_disk_is_named),
        cmocka_unit_test(test_what_is_no_file_stays),
        cmocka_unit_test(test_folder_create),
    };
    return cmocka_run_group_tests_name("base/file", tests, NULL, NULL);
}
