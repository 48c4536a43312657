// Packing: the same pictures from a folder and from every archive, and each refusal by name.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "data/dataset.h"
#include "hdf5_tools/commands.h"
#include "hdf5_tools/pack.h"
#include "tests/data/scratch.h"
#include "tests/hdf5_tools/trees.h"

enum { PER_CLASS = 50, TRAIN = TREE_CLASSES * PER_CLASS, VAL = TREE_CLASSES * TREE_VAL };

static int pack_with(struct scratch *s, const char *source, const char *output,
                     struct pack_options options, struct pack_summary *summary)
{
    options.source = scratch_path(s, source);
    options.output = scratch_path(s, output);
    return pack(&options, summary);
}

static int pack_plainly(struct scratch *s, const char *source, const char *output)
{
    return pack_with(s, source, output, (struct pack_options){.seed = 1}, NULL);
}

// Every row holds the picture and the label that the seeded order says.
static void expect_tree(const char *path, uint64_t seed)
{
    static uint8_t pixels[TRAIN * TREE_SIDE * TREE_SIDE * 3];
    int32_t labels[TRAIN];
    struct dataset d;
    assert_int_equal(dataset_open(&d, path), 0);
    const int64_t counts[SPLIT_COUNT] = {TRAIN, VAL};
    for (enum dataset_split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        assert_int_equal(d.count[split], counts[split]);
        assert_int_equal(dataset_read(&d, split, 0, counts[split], pixels, labels), 0);
        struct permutation order;
        permutation_init(&order, seed, RANDOM_PACK, (uint32_t)split, (uint64_t)counts[split]);
        int64_t each = counts[split] / TREE_CLASSES;
        for (int64_t row = 0; row < counts[split]; row++) {
            int64_t item = (int64_t)permutation_apply(&order, (uint64_t)row); // sorted by path
            const uint8_t *pixel = pixels + row * TREE_SIDE * TREE_SIDE * 3;
            assert_int_equal(labels[row], item / each);
            assert_int_equal(pixel[0], item / each * 40 + 5);
            assert_int_equal(pixel[1], item % each);
            assert_int_equal(pixel[2], split);
        }
    }
    char *name;
    assert_int_equal(dataset_class_name(&d, 1, &name), 0);
    assert_string_equal(name, "bee");
    free(name);
    dataset_close(&d);
}

static void folder_and_archives_give_the_same(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), PER_CLASS);
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.tar"), ARCHIVE_TAR, "");
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.tar.gz"), ARCHIVE_TAR_GZ, "./top/");
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.zip"), ARCHIVE_ZIP, "top/");
    static const char *const sources[] = {"tree", "a.tar", "a.tar.gz", "a.zip"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pack_plainly(s, sources[i], "out.h5"), 0);
        expect_tree(scratch_path(s, "out.h5"), 1);
    }
}

static void threads_do_not_matter_and_seeds_do(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), PER_CLASS);
    const struct pack_options one = {.seed = 5, .threads = 1}, many = {.seed = 5, .threads = 7};
    assert_int_equal(pack_with(s, "tree", "one.h5", one, NULL), 0);
    assert_int_equal(pack_with(s, "tree", "many.h5", many, NULL), 0);
    size_t bytes[2];
    uint8_t *a = scratch_load(scratch_path(s, "one.h5"), &bytes[0]);
    uint8_t *b = scratch_load(scratch_path(s, "many.h5"), &bytes[1]);
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(a, b, bytes[0]);
    expect_tree(scratch_path(s, "one.h5"), 5);
    free(a);
    free(b);
}

static void annotations_label_val(void **state)
{
    struct scratch *s = *state;
    char tree[PATH_CAPACITY];
    snprintf(tree, sizeof tree, "%s", scratch_path(s, "tree"));
    static const char words[] = "ant\tant, emmet\r\nother\tx\ncat\tcat\n";
    // In no order, with columns for boxes, without a newline at the end.
    static const char labels[] =
        "val_1.png\tcat\t0\t0\t7\t7\nval_0.png\tant\t0\t0\t7\t7\n"
        "val_2.png\tcat";
    for (int c = 0; c < TREE_CLASSES; c++) {
        static const char *const names[] = {"train/ant/images/ant_0.png", "train/bee/0.PNG",
                                            "train/cat/c.png"};
        tree_put_colour(tree, names[c], c, 0, 0, 8, 8);
    }
    tree_put(tree, "train/ant/ant_boxes.txt", "1", 1);
    tree_put(tree, "train/.DS_Store", "1", 1);
    tree_put(tree, "test/images/test_0.png", "broken", 6);
    tree_put_colour(tree, "val/images/val_0.png", 0, 0, 1, 8, 8);
    tree_put_colour(tree, "val/images/val_1.png", 2, 1, 1, 8, 8);
    tree_put_colour(tree, "val/images/val_2.png", 2, 2, 1, 8, 8);
    tree_put(tree, "words.txt", words, strlen(words));
    tree_put(tree, "val/val_annotations.txt", labels, strlen(labels));
    tree_archive(tree, scratch_path(s, "a.zip"), ARCHIVE_ZIP, "top/");
    assert_int_equal(pack_plainly(s, "a.zip", "out.h5"), 0);
    struct dataset d;
    uint8_t pixels[3 * 8 * 8 * 3];
    int32_t found[3];
    assert_int_equal(dataset_open(&d, scratch_path(s, "out.h5")), 0);
    assert_int_equal(d.count[SPLIT_TRAIN], 3);
    assert_int_equal(d.count[SPLIT_VAL], 3);
    assert_int_equal(dataset_read(&d, SPLIT_VAL, 0, 3, pixels, found), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(found[i] * 40 + 5, pixels[i * 8 * 8 * 3]);
    char *name;
    static const char *const names[] = {"ant, emmet", "bee", "cat"};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(dataset_class_name(&d, c, &name), 0);
        assert_string_equal(name, names[c]);
        free(name);
    }
    dataset_close(&d);

    static const char unknown[] = "val_0.png\tdog\nval_1.png\tcat\nval_2.png\tcat\n";
    tree_put(tree, "val/val_annotations.txt", unknown, strlen(unknown));
    assert_int_equal(pack_plainly(s, "tree", "none.h5"), RETORT_INPUT);
    assert_true(SAID(s, "val_annotations.txt gives val_0.png the class dog"));
    static const char missing[] =
        "val_0.png\tant\nval_1.png\tcat\nval_2.png\tcat\nval_9.png\tcat\n";
    tree_put(tree, "val/val_annotations.txt", missing, strlen(missing));
    assert_int_equal(pack_plainly(s, "tree", "none.h5"), RETORT_INPUT);
    assert_true(SAID(s, "names val_9.png, which is not in val"));
    tree_put(tree, "val/val_annotations.txt", missing, 28);
    assert_int_equal(pack_plainly(s, "tree", "none.h5"), RETORT_INPUT);
    assert_true(SAID(s, "val/images/val_2.png has no label"));
    static const char twice[] = "val_0.png\tant\nval_0.png\tant\n";
    tree_put(tree, "val/val_annotations.txt", twice, strlen(twice));
    assert_int_equal(pack_plainly(s, "tree", "none.h5"), RETORT_INPUT);
    assert_true(SAID(s, "has val_0.png twice"));
    remove(scratch_path(s, "tree/val/val_annotations.txt"));
    assert_int_equal(pack_plainly(s, "tree", "none.h5"), RETORT_INPUT);
    assert_true(SAID(s, "val/images", "no val_annotations.txt"));
    assert_false(file_exists(scratch_path(s, "none.h5")));
}

static void a_truncated_picture_is_named_or_left_out(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), PER_CLASS);
    uint8_t pixels[TREE_SIDE * TREE_SIDE * 3] = {0};
    struct encoded jpeg = encode_jpeg(JPEG_RGB, pixels, TREE_SIDE, TREE_SIDE);
    tree_put(scratch_path(s, "tree"), "train/bee/cut.JPEG", jpeg.bytes, jpeg.count - 3);
    free(jpeg.bytes);
    tree_put(scratch_path(s, "tree"), "val/cat/odd.gif", "GIF89a", 6);
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.tar"), ARCHIVE_TAR, "top/");
    int entries = scratch_entries(s);
    assert_int_equal(pack_plainly(s, "a.tar", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "a.tar: cannot decode top/", "--skip-bad"));
    assert_int_equal(scratch_entries(s), entries); // nothing is left behind

    struct pack_summary summary;
    assert_int_equal(pack_with(s, "a.tar", "out.h5",
                               (struct pack_options){.seed = 1, .skip_bad = true}, &summary),
                     0);
    assert_true(SAID(s, "left out top/train/bee/cut.JPEG", "left out top/val/cat/odd.gif",
                     "neither JPEG nor PNG", "2 pictures could not be decoded"));
    assert_int_equal(summary.skipped_count, 2);
    assert_int_equal(summary.train_count, TRAIN);
    expect_tree(scratch_path(s, "out.h5"), 1);
}

static void a_class_whose_pictures_are_all_bad_is_refused(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), 1);
    tree_put(scratch_path(s, "tree"), "train/bee/000.png", "bad", 3);
    assert_int_equal(pack_with(s, "tree", "out.h5", (struct pack_options){.skip_bad = true}, NULL),
                     RETORT_INPUT);
    assert_true(SAID(s, "left out train/bee/000.png", "train/bee has no pictures"));
}

static void odd_folders_are_refused_by_name(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), 2);
    assert_int_equal(folder_create(scratch_path(s, "tree/train/dog")), 0);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "class folder train/dog has no pictures"));
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.zip"), ARCHIVE_ZIP, "");
    assert_int_equal(pack_plainly(s, "a.zip", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "a.zip", "class folder train/dog has no pictures"));
    rmdir(scratch_path(s, "tree/train/dog"));

    tree_put_colour(scratch_path(s, "tree"), "val/emu/0.png", 0, 0, 0, 8, 8);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "class emu is in val but not in train"));
    remove(scratch_path(s, "tree/val/emu/0.png"));
    rmdir(scratch_path(s, "tree/val/emu"));

    tree_put_colour(scratch_path(s, "tree"), "train/lost.png", 0, 0, 0, 8, 8);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "train/lost.png lies in no class folder"));
    remove(scratch_path(s, "tree/train/lost.png"));

    tree_put_colour(scratch_path(s, "tree"), "copy/train/ant/0.png", 0, 0, 0, 8, 8);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "more than one image folder"));

    assert_int_equal(pack_plainly(s, "tree/train", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "has no folder train"));
    tree_put_colour(scratch_path(s, "half"), "train/ant/0.png", 0, 0, 0, 8, 8);
    assert_int_equal(pack_plainly(s, "half", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "has no folder val"));
    assert_false(file_exists(scratch_path(s, "out.h5")));
}

static void damaged_archives_are_refused(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), PER_CLASS);
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.tar.gz"), ARCHIVE_TAR_GZ, "");
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "a.zip"), ARCHIVE_ZIP, "");
    static const char *const names[] = {"a.tar.gz", "a.zip"};
    for (int i = 0; i < 2; i++) {
        const char *cut = scratch_path(s, "cut");
        size_t bytes;
        uint8_t *archive = scratch_load(scratch_path(s, names[i]), &bytes);
        size_t end = bytes - 8; // of what must be whole: a zip's pictures come before its list
        for (size_t at = 0; i == 1 && at < end; at++)
            if (memcmp(archive + at, "PK\1\2", 4) == 0)
                end = at;
        for (size_t kept = 10; kept < end; kept += end / 9) {
            scratch_store(cut, archive, kept);
            assert_int_equal(pack_plainly(s, "cut", "out.h5"), RETORT_INPUT);
            assert_true(SAID(s, "/cut"));
        }
        free(archive);
    }
    assert_int_equal(pack_plainly(s, "none.zip", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "none.zip: No such file"));
    scratch_store(scratch_path(s, "text.zip"), "just a text, no archive\n", 24);
    assert_int_equal(pack_plainly(s, "text.zip", "out.h5"), RETORT_INPUT);
    assert_true(SAID(s, "text.zip as an archive"));
    assert_false(file_exists(scratch_path(s, "out.h5")));
}

static void other_sizes_want_the_option(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), 2);
    tree_put_colour(scratch_path(s, "tree"), "train/cat/wide.png", 2, 7, 0, 20, 31);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), RETORT_INPUT);
    assert_true(
        SAID(s, "train/cat/wide.png has 31 x 20 pixels", "the first picture 8 x 8", "--size"));
    struct pack_summary summary;
    assert_int_equal(
        pack_with(s, "tree", "out.h5", (struct pack_options){.seed = 1, .size = 12}, &summary), 0);
    assert_int_equal(summary.height, 12);
    assert_int_equal(summary.train_count, 7);
    struct dataset d;
    uint8_t pixels[7 * 12 * 12 * 3];
    int32_t labels[7];
    assert_int_equal(dataset_open(&d, scratch_path(s, "out.h5")), 0);
    assert_int_equal(d.width, 12);
    assert_int_equal(dataset_read(&d, SPLIT_TRAIN, 0, 7, pixels, labels), 0);
    int wide = 0;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(pixels[i * 12 * 12 * 3], labels[i] * 40 + 5);
        wide += pixels[i * 12 * 12 * 3 + 1] == 7;
    }
    assert_int_equal(wide, 1);
    dataset_close(&d);
}

static void destinations_are_checked_first(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), 1);
    assert_int_equal(pack_plainly(s, "tree", "no/out.h5"), RETORT_WRITE);
    assert_true(SAID(s, "cannot write into"));
    assert_int_equal(pack_plainly(s, "tree", "tree"), RETORT_WRITE);
    scratch_store(scratch_path(s, "letter"), "dear", 4);
    assert_int_equal(pack_plainly(s, "tree", "letter"), RETORT_WRITE);
    assert_true(SAID(s, "letter exists and is not a file of retort's"));
    assert_int_equal(file_size(scratch_path(s, "letter")), 4);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), 0);
    assert_int_equal(pack_plainly(s, "tree", "out.h5"), 0); // ours is replaced
}

static void a_signal_leaves_nothing(void **state)
{
    struct scratch *s = *state;
    tree_make(scratch_path(s, "tree"), 1);
    pid_t child = fork();
    if (child == 0) {
        sigset_t term;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        sigprocmask(SIG_BLOCK, &term, NULL);
        raise(SIGTERM); // waits, as one that comes while the file is being written
        _exit(pack_plainly(s, "tree", "out.h5"));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), RETORT_STOPPED);
    assert_int_equal(scratch_entries(s), 1);
}

#define RUN(command, ...)                                                                          \
    command(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *), (char *[]){__VA_ARGS__, NULL})

static void command_lines_are_checked(void **state)
{
    struct scratch *s = *state;
    char *pack_word = (char *)"pack", *a = (char *)"a", *b = (char *)"b";
    assert_int_equal(RUN(pack_main, pack_word), RETORT_USAGE);
    assert_true(SAID(s, "pack: something is missing; usage: retort pack SRC OUT.h5"));
    assert_int_equal(RUN(pack_main, pack_word, a, b, a), RETORT_USAGE);
    assert_int_equal(RUN(pack_main, pack_word, a, b, (char *)"--colour"), RETORT_USAGE);
    assert_true(SAID(s, "unknown option --colour"));
    assert_int_equal(RUN(pack_main, pack_word, a, b, (char *)"-z"), RETORT_USAGE);
    assert_true(SAID(s, "unknown option -z"));
    assert_int_equal(RUN(pack_main, pack_word, a, b, (char *)"--size"), RETORT_USAGE);
    assert_true(SAID(s, "--size wants a value"));
    static const char *const bad[] = {"--size=0",
                                      "--size=5000",
                                      "--size=12px",
                                      "--size=",
                                      "--seed=-1",
                                      "--threads=0",
                                      "--seed=99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(RUN(pack_main, pack_word, a, b, (char *)bad[i]), RETORT_USAGE);
        assert_true(SAID(s, "expected a whole number"));
    }
    assert_int_equal(RUN(synth_main, (char *)"synth", a, (char *)"--classes=81"), RETORT_USAGE);
    assert_int_equal(RUN(inspect_main, (char *)"inspect", a, (char *)"--yaml"), RETORT_USAGE);
    assert_int_equal(RUN(verify_main, (char *)"verify"), RETORT_USAGE);
    assert_int_equal(RUN(verify_main, (char *)"verify", (char *)"--help"), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(folder_and_archives_give_the_same),
        TEST(threads_do_not_matter_and_seeds_do),
        TEST(annotations_label_val),
        TEST(a_truncated_picture_is_named_or_left_out),
        TEST(a_class_whose_pictures_are_all_bad_is_refused),
        TEST(odd_folders_are_refused_by_name),
        TEST(damaged_archives_are_refused),
        TEST(other_sizes_want_the_option),
        TEST(destinations_are_checked_first),
        TEST(a_signal_leaves_nothing),
        TEST(command_lines_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
