// A full disk, on a small tmpfs: needs root, and is skipped otherwise.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/error.h"
#include "data/checkpoint.h"
#include "data/logits.h"
#include "tests/data/scratch.h"

enum { SKIPPED = 77, TOTAL = 100000 }; // 400 kB an arena

static int setup(void **state)
{
    int rc = scratch_setup(state);
    struct scratch *s = *state;
    return rc ? rc : mount("tmpfs", s->folder, "tmpfs", 0, "size=2M");
}

static int teardown(void **state)
{
    struct scratch *s = *state;
    umount(s->folder);
    return scratch_teardown(state);
}

static void fill_disk(const struct scratch *s, size_t bytes)
{
    char *zeros = calloc(1, bytes);
    scratch_store(scratch_path(s, "filler"), zeros, bytes);
    free(zeros);
}

static int write_step(const char *folder, int64_t step, float value)
{
    static float arena[TOTAL];
    char layout[] = "[]", text[] = "x";
    for (int i = 0; i < TOTAL; i++)
        arena[i] = value;
    struct checkpoint c = {.total = TOTAL,
                           .trainable = TOTAL,
                           .weights = arena,
                           .ema = arena,
                           .state = json_object(),
                           .layout = layout,
                           .recipe = text,
                           .dataset = text,
                           .classes = layout};
    int rc = checkpoint_write(folder, step, &c, 1);
    json_decref(c.state);
    return rc;
}

static void test_checkpoint(void **state)
{
    struct scratch *s = *state;
    struct checkpoint c;
    int64_t step = -1;
    assert_int_equal(write_step(s->folder, 1, 1.5f), RETORT_OK);
    fill_disk(s, 600000); // 500 kB are left
    assert_int_equal(write_step(s->folder, 2, 2.5f), RETORT_WRITE);
    assert_true(SAID(s, "ckpt-000000002.h5", "No space left"));
    assert_int_equal(scratch_entries(s), 2);
    assert_int_equal(checkpoint_read_newest(&c, s->folder, &step), RETORT_OK);
    assert_int_equal(step, 1);
    assert_float_equal(((float *)c.ema)[TOTAL - 1], 1.5f, 0.0f);
    checkpoint_free(&c);
    assert_int_equal(unlink(scratch_path(s, "filler")), 0);
    assert_int_equal(write_step(s->folder, 2, 2.5f), RETORT_OK);
}

static struct logit_identity small_identity(int64_t samples)
{
    return (struct logit_identity){.views = 2,
                                   .samples = samples,
                                   .classes = 10,
                                   .dataset = "d",
                                   .teacher = "t",
                                   .precision = "f32"};
}

// Two parts and a store of two views need 4 * 28 bytes a sample.
static void test_logits(void **state)
{
    struct scratch *s = *state;
    struct logit_identity id = small_identity(20000);
    struct logit_writer *w = NULL;
    int64_t next;
    const char *path = scratch_path(s, "logits.h5");
    assert_int_equal(logit_writer_create(&w, path, &id, &next), RETORT_WRITE);
    assert_true(SAID(s, "logits.h5", "2.2 MB", "free"));
    id = small_identity(10000);
    assert_int_equal(logit_writer_create(&w, path, &id, &next), RETORT_OK);
    uint16_t *logits = calloc((size_t)id.samples * 10, sizeof *logits);
    uint64_t *digests = calloc((size_t)id.samples, sizeof *digests);
    assert_int_equal(logit_writer_put(w, 0, id.samples, logits, digests), RETORT_OK);
    fill_disk(s, 1600000); // others may fill it meanwhile
    assert_int_equal(logit_writer_end_view(w), RETORT_WRITE);
    logit_writer_discard(&w);
    assert_int_equal(unlink(scratch_path(s, "filler")), 0);
    assert_int_equal(logit_writer_create(&w, path, &id, &next), RETORT_OK);
    assert_int_equal(next, 1); // its space was claimed
    logit_writer_discard(&w);
    free(logits);
    free(digests);
}

int main(void)
{
    void *probe = NULL;
    if (geteuid() != 0 || setup(&probe) != 0) {
        print_message("skipped: a tmpfs needs root\n");
        return SKIPPED;
    }
    teardown(&probe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_checkpoint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
