// Packing and drawing onto a disk that is too small, of any size: one line, code 5, nothing left.
// The disk is a tmpfs in a mount namespace of its own; without the right to make one: skipped (77).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <sched.h>
#include <sys/mount.h>

#include "base/error.h"
#include "hdf5_tools/pack.h"
#include "hdf5_tools/synth.h"
#include "hdf5_tools/verify.h"
#include "tests/data/scratch.h"
#include "tests/hdf5_tools/trees.h"

static void mount_disk(const char *folder, int kilobytes)
{
    char options[32];
    snprintf(options, sizeof options, "size=%dk", kilobytes);
    assert_int_equal(mount("tmpfs", folder, "tmpfs", 0, options), 0);
}

static void a_full_disk_leaves_nothing(void **state)
{
    struct scratch *s = *state;
    struct scratch disk = {.folder = ""};
    snprintf(disk.folder, sizeof disk.folder, "%s", scratch_path(s, "disk"));
    assert_int_equal(folder_create(disk.folder), 0);
    tree_make(scratch_path(s, "tree"), 100);
    struct pack_options o = {.source = scratch_path(s, "tree"), .seed = 1};
    char output[PATH_CAPACITY];
    snprintf(output, sizeof output, "%.4000s/out.h5", disk.folder);
    o.output = output;
    // The pictures are 59 KB, the file 68 KB: full at the start, in the pictures, in what follows.
    int failures = 0, last_rc = -1;
    for (int kilobytes = 4; kilobytes <= 96; kilobytes += 4) {
        mount_disk(disk.folder, kilobytes);
        last_rc = pack(&o, NULL);
        if (last_rc != 0) {
            assert_int_equal(last_rc, RETORT_WRITE);
            assert_true(SAID(s, "out.h5", "No space left on device"));
            assert_int_equal(scratch_entries(&disk), 0);
            failures++;
        } else {
            assert_int_equal(verify(output), 0);
        }
        assert_int_equal(umount(disk.folder), 0);
    }
    assert_true(failures >= 15);
    assert_int_equal(last_rc, 0); // and a disk that is large enough is
}

static void drawing_onto_a_full_disk_leaves_nothing(void **state)
{
    struct scratch *s = *state;
    struct scratch disk = {.folder = ""};
    snprintf(disk.folder, sizeof disk.folder, "%s", scratch_path(s, "disk"));
    assert_int_equal(folder_create(disk.folder), 0);
    mount_disk(disk.folder, 64);
    char folder[PATH_CAPACITY];
    snprintf(folder, sizeof folder, "%.4000s/synth", disk.folder);
    struct synth_options o = {
        .folder = folder, .classes = 4, .per_class = 20, .val_per_class = 5, .size = 32, .seed = 1};
    assert_int_equal(synth(&o), RETORT_WRITE);
    assert_true(SAID(s, "/synth", "No space left on device"));
    assert_int_equal(scratch_entries(&disk), 0);
    assert_int_equal(umount(disk.folder), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        puts("no right to mount: skipped");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_full_disk_leaves_nothing),
        TEST(drawing_onto_a_full_disk_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
