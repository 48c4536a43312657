// Power fails before or after any call that names, links or removes a file: what was reported as
// written is there, whole, whatever the disk had not been told to keep.
//
// fsync, rename, link and unlink of our own code come through here (the linker's --wrap). They keep
// a model of what is certainly on the disk: the bytes of a file as of its last flush, the names of
// the folder as of its last flush. At every boundary three disks that a power failure may leave are
// laid out in another folder, and read. After Pillai et al., "All file systems are not created
// equal" (OSDI 2014).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "data/checkpoint.h"
#include "data/logits.h"
#include "tests/data/scratch.h"

enum { INODES = 256, NAMES = 64, NAME = 128 };
enum disk { DISK_NOTHING_UNFLUSHED, DISK_NAMES_AT_ONCE, DISK_REMOVALS_AT_ONCE, DISKS };

struct name {
    char text[NAME];
    int inode; // of inodes[]
};

static struct {
    bool on;                    // calls are watched
    bool no_links;              // a file system without hard links
    char folder[PATH_CAPACITY]; // that is watched
    char wreck[PATH_CAPACITY];  // what a power failure leaves of it
    void (*check)(const char *wreck, enum disk disk);
    int boundaries; // so far
    int inode_count, flushed_count;
    struct {
        ino_t number;
        int fd; // kept open, so that the number is not used again
        uint8_t *bytes;
        size_t count;
    } inodes[INODES];
    struct name flushed[NAMES];
} model;

int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __real_link(const char *from, const char *to);
int __real_unlink(const char *path);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __wrap_unlink(const char *path);

static int inode_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    for (int i = 0; i < model.inode_count; i++)
        if (model.inodes[i].number == status.st_ino)
            return i;
    assert_true(model.inode_count < INODES);
    model.inodes[model.inode_count].number = status.st_ino;
    model.inodes[model.inode_count].fd = open(path, O_RDONLY);
    return model.inode_count++;
}

// The names in the watched folder now.
static int list_names(struct name out[NAMES])
{
    int count = 0;
    char path[PATH_CAPACITY];
    DIR *entries = opendir(model.folder);
    assert_non_null(entries);
    for (struct dirent *e; (e = readdir(entries)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        assert_true(count < NAMES && strlen(e->d_name) < NAME);
        assert_int_equal(path_join(path, model.folder, e->d_name), 0);
        (void)snprintf(out[count].text, NAME, "%.*s", NAME - 1, e->d_name);
        out[count++].inode = inode_of(path);
    }
    closedir(entries);
    return count;
}

static bool is_in(const struct name *names, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i].text, text) == 0)
            return true;
    return false;
}

// Lays out `names` with the bytes that were flushed; never flushed: an empty file.
static void lay_out(const struct name *names, int count, const struct name *must_exist, int others)
{
    char path[PATH_CAPACITY];
    for (int i = 0; i < count; i++) {
        if (must_exist && !is_in(must_exist, others, names[i].text))
            continue;
        assert_int_equal(path_join(path, model.wreck, names[i].text), 0);
        scratch_store(path, model.inodes[names[i].inode].bytes, model.inodes[names[i].inode].count);
    }
}

static void clear_wreck(void)
{
    char path[PATH_CAPACITY];
    DIR *entries = opendir(model.wreck);
    for (struct dirent *e; (e = readdir(entries)) != NULL;)
        if (e->d_name[0] != '.' && path_join(path, model.wreck, e->d_name) == 0)
            (void)__real_unlink(path);
    closedir(entries);
}

// The power fails here.
static void boundary(void)
{
    static struct name now[NAMES];
    if (!model.on)
        return;
    model.on = false;
    model.boundaries++;
    int count = list_names(now);
    for (enum disk disk = 0; disk < DISKS; disk++) {
        clear_wreck();
        if (disk == DISK_NAMES_AT_ONCE)
            lay_out(now, count, NULL, 0);
        else
            lay_out(model.flushed, model.flushed_count, disk == DISK_REMOVALS_AT_ONCE ? now : NULL,
                    count);
        model.check(model.wreck, disk);
    }
    model.on = true;
}

int __wrap_fsync(int fd)
{
    char link_name[64], path[PATH_CAPACITY] = "";
    struct stat status;
    int rc = __real_fsync(fd);
    if (!model.on)
        return rc;
    assert_int_equal(fstat(fd, &status), 0);
    if (S_ISDIR(status.st_mode)) {
        model.flushed_count = list_names(model.flushed);
        return rc;
    }
    (void)snprintf(link_name, sizeof link_name, "/proc/self/fd/%d", fd);
    assert_true(readlink(link_name, path, sizeof path - 1) > 0);
    int i = inode_of(path);
    free(model.inodes[i].bytes);
    model.inodes[i].bytes = scratch_load(path, &model.inodes[i].count);
    return rc;
}

int __wrap_rename(const char *from, const char *to)
{
    boundary();
    int rc = __real_rename(from, to);
    boundary();
    return rc;
}

int __wrap_link(const char *from, const char *to)
{
    if (model.no_links) {
        errno = EPERM;
        return -1;
    }
    boundary();
    return __real_link(from, to);
}

int __wrap_unlink(const char *path)
{
    boundary();
    return __real_unlink(path);
}

static void watch(const struct scratch *s, void (*check)(const char *, enum disk))
{
    memset(&model, 0, sizeof model);
    (void)snprintf(model.folder, PATH_CAPACITY, "%s", scratch_path(s, "run"));
    (void)snprintf(model.wreck, PATH_CAPACITY, "%s", scratch_path(s, "wreck"));
    assert_int_equal(folder_create(model.folder), RETORT_OK);
    assert_int_equal(folder_create(model.wreck), RETORT_OK);
    model.check = check;
    model.on = true;
}

static void unwatch(int boundaries)
{
    boundary(); // all has been done, and reported
    model.on = false;
    for (int i = 0; i < model.inode_count; i++) {
        close(model.inodes[i].fd);
        free(model.inodes[i].bytes);
    }
    if (model.boundaries < boundaries)
        fail_msg("%d boundaries in place of %d or more", model.boundaries, boundaries);
}

static struct {
    int64_t begun, done; // steps whose checkpoint was begun, and reported as written
} saved;

enum { TOTAL = 300 };

static void save(int64_t step, int64_t keep)
{
    static char text[] = "[]";
    static float weights[TOTAL];
    for (int i = 0; i < TOTAL; i++)
        weights[i] = (float)step;
    struct checkpoint c = {.real = REAL_F32,
                           .total = TOTAL,
                           .trainable = TOTAL,
                           .weights = weights,
                           .state = json_object(),
                           .layout = text,
                           .recipe = text,
                           .dataset = text,
                           .classes = text};
    saved.begun = step;
    assert_int_equal(checkpoint_write(model.folder, step, &c, keep), RETORT_OK);
    saved.done = step;
    json_decref(c.state);
    assert_int_equal(checkpoint_link(model.folder, step, "last.h5"), RETORT_OK);
    if (step % 2 == 0)
        assert_int_equal(checkpoint_link(model.folder, step, "best.h5"), RETORT_OK);
}

static void check_whole_or_absent(const char *wreck, const char *name, enum disk disk)
{
    char path[PATH_CAPACITY];
    struct checkpoint c;
    assert_int_equal(path_join(path, wreck, name), 0);
    if (!file_exists(path))
        return;
    if (checkpoint_read(&c, path, true) != RETORT_OK)
        fail_msg("disk %d: %s is not whole", (int)disk, name);
    checkpoint_free(&c);
}

// The last checkpoint that was reported, or the one under way.
static void check_checkpoints(const char *wreck, enum disk disk)
{
    struct checkpoint c;
    int64_t step;
    check_whole_or_absent(wreck, "last.h5", disk);
    check_whole_or_absent(wreck, "best.h5", disk);
    assert_int_equal(checkpoint_read_newest(&c, wreck, &step), RETORT_OK);
    if (step != saved.done && step != saved.begun)
        fail_msg("disk %d: step %lld is there, step %lld was written", (int)disk, (long long)step,
                 (long long)saved.done);
    if (step >= 0 && ((float *)c.weights)[TOTAL - 1] != (float)step)
        fail_msg("disk %d: step %lld holds another's weights", (int)disk, (long long)step);
    checkpoint_free(&c);
}

static void write_checkpoints(const struct scratch *s, bool no_links)
{
    saved.begun = saved.done = -1;
    watch(s, check_checkpoints);
    model.no_links = no_links;
    for (int64_t step = 1; step <= 5; step++)
        save(step, 1); // each removes the one before
    for (int64_t step = 6; step <= 9; step++)
        save(step, 2);
    unwatch(50);
}

static void test_checkpoints(void **state)
{
    write_checkpoints(*state, false);
}

static void test_checkpoints_without_hard_links(void **state)
{
    write_checkpoints(*state, true);
}

enum { VIEWS = 3, SAMPLES = 20, CLASSES = 4 };
static struct {
    struct logit_identity id;
    int64_t views; // reported as written
    bool committed;
} pass;

// Whole, or the views that were reported are taken up.
static void check_logits(const char *wreck, enum disk disk)
{
    char path[PATH_CAPACITY];
    struct logit_store store;
    struct logit_writer *w;
    int64_t next;
    assert_int_equal(path_join(path, wreck, "logits.h5"), 0);
    int rc = logit_store_open(&store, path, true);
    logit_store_close(&store);
    if (rc == RETORT_OK)
        return;
    if (pass.committed || file_exists(path))
        fail_msg("disk %d: logits.h5 is not whole", (int)disk);
    assert_int_equal(logit_writer_create(&w, path, &pass.id, &next), RETORT_OK);
    logit_writer_discard(&w);
    if (next < pass.views)
        fail_msg("disk %d: view %lld of %lld is lost", (int)disk, (long long)next,
                 (long long)pass.views);
}

static void test_logits(void **state)
{
    const struct scratch *s = *state;
    static const uint16_t logits[SAMPLES * CLASSES];
    static const uint64_t digests[SAMPLES];
    struct logit_writer *w;
    char path[PATH_CAPACITY];
    int64_t next;
    memset(&pass, 0, sizeof pass);
    pass.id = (struct logit_identity){.views = VIEWS, .samples = SAMPLES, .classes = CLASSES};
    watch(s, check_logits);
    assert_int_equal(path_join(path, model.folder, "logits.h5"), 0);
    assert_int_equal(logit_writer_create(&w, path, &pass.id, &next), RETORT_OK);
    for (int64_t view = 0; view < VIEWS; view++) {
        assert_int_equal(logit_writer_put(w, 0, SAMPLES, logits, digests), RETORT_OK);
        assert_int_equal(logit_writer_end_view(w), RETORT_OK);
        pass.views = view + 1;
    }
    assert_int_equal(logit_writer_commit(&w), RETORT_OK);
    pass.committed = true;
    unwatch(10);
}

static char text_before, text_now; // "" for none

// A text of one letter: the old one or the new one, and the new one when it was reported.
static void check_text(const char *wreck, enum disk disk)
{
    char path[PATH_CAPACITY], got = '\0';
    assert_int_equal(path_join(path, wreck, "summary.json"), 0);
    if (file_exists(path)) {
        size_t bytes;
        uint8_t *text = scratch_load(path, &bytes);
        got = bytes == 5 ? (char)text[4] : '?';
        free(text);
    }
    if (got != text_before && got != text_now)
        fail_msg("disk %d: '%c' in place of '%c' or '%c'", (int)disk, got, text_before, text_now);
}

static void test_texts(void **state)
{
    char path[PATH_CAPACITY], text[] = "text?";
    text_before = text_now = '\0';
    watch(*state, check_text);
    assert_int_equal(path_join(path, model.folder, "summary.json"), 0);
    for (char letter = 'a'; letter <= 'c'; letter++) {
        text[4] = text_now = letter;
        assert_int_equal(file_write_whole(path, text, 5), RETORT_OK);
        text_before = letter; // from here on it is there
        boundary();
    }
    unwatch(9);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoints),
        TEST(test_checkpoints_without_hard_links),
        TEST(test_logits),
        TEST(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
