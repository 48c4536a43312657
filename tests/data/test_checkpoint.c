// Checkpoints: round trip, damage, kills, retention, what is refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "data/checkpoint.h"
#include "tests/data/scratch.h"

enum { TOTAL = 5000, TRAINABLE = 4200 };

static char layout_text[] =
    "[{\"name\":\"conv1.weight\",\"shape\":[4000],\"offset\":0,"
    "\"count\":4000},{\"name\":\"conv1.bias\",\"shape\":[1000],"
    "\"offset\":4000,\"count\":1000}]";
static char recipe_text[] = "run: {seed: 1}\n# größer als nichts\n";
static char dataset_text[] = "00112233445566778899aabbccddeeff";
static char pictures_text[] = "{\"height\":64}";
static char classes_text[] = "[\"goldfish, Carassius auratus\",\"bee\"]";

// What a checkpoint of a step holds: every element says which step, arena and index it is of.
static double value_at(int64_t step, int arena, size_t i)
{
    return (double)step * 16.0 + arena * 4.0 + (double)(i % 4096) / 4096.0;
}

static void *make_arena(enum real_type real, int64_t step, int arena, size_t count)
{
    void *out = malloc(count * real_bytes(real));
    for (size_t i = 0; i < count; i++)
        if (real == REAL_F64)
            ((double *)out)[i] = value_at(step, arena, i);
        else
            ((float *)out)[i] = (float)value_at(step, arena, i);
    return out;
}

static struct checkpoint make_checkpoint(enum real_type real, int64_t step)
{
    return (struct checkpoint){.real = real,
                               .total = TOTAL,
                               .trainable = TRAINABLE,
                               .weights = make_arena(real, step, 0, TOTAL),
                               .ema = make_arena(real, step, 1, TOTAL),
                               .moment1 = make_arena(real, step, 2, TRAINABLE),
                               .moment2 = make_arena(real, step, 3, TRAINABLE),
                               .state = json_pack("{s:I,s:f,s:[f,f]}", "step", (json_int_t)step,
                                                  "best_top1", 0.1, "sums", 1.0 / 3.0, 1e300),
                               .layout = layout_text,
                               .recipe = recipe_text,
                               .dataset = dataset_text,
                               .classes = classes_text,
                               .pictures = pictures_text};
}

static void drop_checkpoint(struct checkpoint *c) // its texts are not ours
{
    free(c->weights);
    free(c->ema);
    free(c->moment1);
    free(c->moment2);
    json_decref(c->state);
}

static int write_step(const char *folder, int64_t step, int64_t keep)
{
    struct checkpoint c = make_checkpoint(REAL_F32, step);
    int rc = checkpoint_write(folder, step, &c, keep);
    drop_checkpoint(&c);
    return rc;
}

static void check_arena(enum real_type real, int64_t step, int arena, const void *got, size_t count)
{
    void *expected = make_arena(real, step, arena, count);
    assert_non_null(got);
    assert_memory_equal(got, expected, count * real_bytes(real));
    free(expected);
}

static void check_content(const struct checkpoint *c, enum real_type real, int64_t step)
{
    assert_int_equal(c->real, real);
    assert_int_equal(c->total, TOTAL);
    assert_int_equal(c->trainable, TRAINABLE);
    check_arena(real, step, 0, c->weights, TOTAL);
    check_arena(real, step, 1, c->ema, TOTAL);
    check_arena(real, step, 2, c->moment1, TRAINABLE);
    check_arena(real, step, 3, c->moment2, TRAINABLE);
    struct checkpoint expected = make_checkpoint(real, step);
    assert_true(json_equal(c->state, expected.state)); // numbers to the last bit
    drop_checkpoint(&expected);
    assert_string_equal(c->layout, layout_text);
    assert_string_equal(c->recipe, recipe_text);
    assert_string_equal(c->dataset, dataset_text);
    assert_string_equal(c->classes, classes_text);
    assert_string_equal(c->pictures, pictures_text);
}

// The newest whole checkpoint of the folder is `step`'s (-1: none), with its content.
static void check_newest(const char *folder, int64_t step)
{
    struct checkpoint c;
    int64_t found = -2;
    assert_int_equal(checkpoint_read_newest(&c, folder, &found), RETORT_OK);
    assert_int_equal(found, step);
    if (step >= 0)
        check_content(&c, REAL_F32, step);
    checkpoint_free(&c);
}

static bool has(const struct scratch *s, const char *name)
{
    return file_exists(scratch_path(s, name));
}

static void test_round_trip(void **state)
{
    struct scratch *s = *state;
    for (enum real_type real = REAL_F32; real <= REAL_F64; real++) {
        struct checkpoint c = make_checkpoint(real, 12), got;
        assert_int_equal(checkpoint_write(s->folder, 12, &c, 3), RETORT_OK);
        drop_checkpoint(&c);
        assert_int_equal(checkpoint_read(&got, scratch_path(s, "ckpt-000000012.h5"), false),
                         RETORT_OK);
        check_content(&got, real, 12);
        checkpoint_free(&got);
        assert_null(got.weights);
    }
    assert_int_equal(scratch_entries(s), 1);
}

static void test_weights_alone(void **state)
{
    struct scratch *s = *state;
    struct checkpoint c = make_checkpoint(REAL_F32, 5), got, bare = c;
    bare.ema = bare.moment1 = bare.moment2 = NULL;
    bare.pictures = NULL; // as the first checkpoints
    assert_int_equal(checkpoint_write(s->folder, 5, &bare, 3), RETORT_OK);
    drop_checkpoint(&c);
    assert_int_equal(checkpoint_read(&got, scratch_path(s, "ckpt-000000005.h5"), false), RETORT_OK);
    check_arena(REAL_F32, 5, 0, got.weights, TOTAL);
    assert_null(got.ema);
    assert_null(got.moment1);
    assert_null(got.moment2);
    assert_null(got.pictures);
    assert_int_equal(got.trainable, TRAINABLE);
    checkpoint_free(&got);
}

static void test_newest(void **state)
{
    struct scratch *s = *state;
    check_newest(scratch_path(s, "teacher"), -1); // no folder
    check_newest(s->folder, -1);                  // an empty one
    scratch_store(scratch_path(s, "ckpt-9.h5"), "x", 1);
    scratch_store(scratch_path(s, "ckpt-000000009.h5.old"), "x", 1);
    check_newest(s->folder, -1);
    assert_int_equal(write_step(s->folder, 999999999, 9), RETORT_OK);
    assert_int_equal(write_step(s->folder, 1000000000, 9), RETORT_OK);
    assert_int_equal(write_step(s->folder, 7, 9), RETORT_OK);
    check_newest(s->folder, 1000000000);
}

// The newest lacks a byte (test_damage.c has all other damage), then none is whole.
static void test_damaged_ones(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(write_step(s->folder, 100, 3), RETORT_OK);
    assert_int_equal(write_step(s->folder, 200, 3), RETORT_OK);
    const char *newest = scratch_path(s, "ckpt-000000200.h5");
    assert_int_equal(truncate(newest, file_size(newest) - 1), 0);
    check_newest(s->folder, 100);
    assert_true(SAID(s, "ckpt-000000200.h5", "damaged; the checkpoint before it is tried"));
    assert_int_equal(truncate(scratch_path(s, "ckpt-000000100.h5"), 1000), 0);
    check_newest(s->folder, -1);
    assert_true(SAID(s, "ckpt-000000100.h5", "there is none before"));
}

static void test_retention(void **state)
{
    struct scratch *s = *state;
    for (int64_t step = 10; step <= 60; step += 10) {
        assert_int_equal(write_step(s->folder, step, 2), RETORT_OK);
        if (step == 20)
            assert_int_equal(checkpoint_link(s->folder, step, "best.h5"), RETORT_OK);
        assert_int_equal(checkpoint_link(s->folder, step, "last.h5"), RETORT_OK);
    }
    assert_true(has(s, "ckpt-000000060.h5") && has(s, "ckpt-000000050.h5"));
    assert_true(has(s, "ckpt-000000020.h5")); // the best
    assert_int_equal(scratch_entries(s), 5);  // and best.h5, last.h5
    struct checkpoint c;
    assert_int_equal(checkpoint_read(&c, scratch_path(s, "best.h5"), false), RETORT_OK);
    check_content(&c, REAL_F32, 20);
    checkpoint_free(&c);
    assert_int_equal(checkpoint_read(&c, scratch_path(s, "last.h5"), false), RETORT_OK);
    check_content(&c, REAL_F32, 60);
    checkpoint_free(&c);
    // A new best lets the old one go.
    assert_int_equal(checkpoint_link(s->folder, 60, "best.h5"), RETORT_OK);
    assert_int_equal(write_step(s->folder, 70, 2), RETORT_OK);
    assert_false(has(s, "ckpt-000000020.h5"));
    assert_int_equal(scratch_entries(s), 4);
}

// A damaged one does not count among those that are kept.
static void test_retention_counts_whole_ones(void **state)
{
    struct scratch *s = *state;
    for (int64_t step = 10; step <= 30; step += 10)
        assert_int_equal(write_step(s->folder, step, 3), RETORT_OK);
    assert_int_equal(truncate(scratch_path(s, "ckpt-000000030.h5"), 999), 0);
    assert_int_equal(write_step(s->folder, 40, 2), RETORT_OK);
    assert_true(has(s, "ckpt-000000020.h5"));
    assert_false(has(s, "ckpt-000000010.h5"));
}

static void test_link_is_repeated(void **state)
{
    struct scratch *s = *state;
    assert_int_equal(write_step(s->folder, 10, 2), RETORT_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(checkpoint_link(s->folder, 10, "best.h5"), RETORT_OK);
    assert_int_equal(scratch_entries(s), 2); // nothing beside it
    assert_int_equal(checkpoint_link(s->folder, 11, "best.h5"), RETORT_INPUT);
    assert_true(SAID(s, "ckpt-000000011.h5"));
    struct checkpoint c;
    assert_int_equal(checkpoint_read(&c, scratch_path(s, "best.h5"), false), RETORT_OK);
    check_content(&c, REAL_F32, 10);
    checkpoint_free(&c);
}

static void test_only_finite_values_are_written(void **state)
{
    struct scratch *s = *state;
    static const float BAD[] = {NAN, INFINITY, -INFINITY};
    assert_int_equal(write_step(s->folder, 1, 3), RETORT_OK);
    for (int i = 0; i < 3; i++) {
        struct checkpoint c = make_checkpoint(REAL_F32, 2);
        ((float *)c.weights)[4000 + i] = BAD[i];
        assert_int_equal(checkpoint_write(s->folder, 2, &c, 3), RETORT_NUMERIC);
        assert_true(SAID(s, "weights", "conv1.bias", "not finite"));
        ((float *)c.weights)[4000 + i] = 0.0f;
        ((float *)c.moment2)[TRAINABLE - 1] = BAD[i];
        assert_int_equal(checkpoint_write(s->folder, 2, &c, 3), RETORT_NUMERIC);
        assert_true(SAID(s, "moment2", "element 4199"));
        drop_checkpoint(&c);
    }
    struct checkpoint c = make_checkpoint(REAL_F64, 2);
    ((double *)c.ema)[3999] = (double)NAN;
    assert_int_equal(checkpoint_write(s->folder, 2, &c, 3), RETORT_NUMERIC);
    assert_true(SAID(s, "ema", "conv1.weight"));
    drop_checkpoint(&c);
    assert_int_equal(scratch_entries(s), 1);
    check_newest(s->folder, 1);
}

// Writes checkpoints, links included, until it is killed.
_Noreturn static void write_until_killed(const char *folder, int64_t step)
{
    for (;; step++)
        if (write_step(folder, step, 3) != RETORT_OK ||
            checkpoint_link(folder, step, "last.h5") != RETORT_OK ||
            (step % 3 == 0 && checkpoint_link(folder, step, "best.h5") != RETORT_OK))
            _exit(1);
}

static void test_kills(void **state)
{
    struct scratch *s = *state;
    int64_t newest = -1;
    for (uint32_t trial = 0; trial < 16 || (newest <= 3 && trial < 1000); trial++) {
        pid_t child = fork();
        if (child == 0)
            write_until_killed(s->folder, newest + 1);
        uint32_t word = random_draw(13, RANDOM_VERIFY, trial, 0).v[0];
        usleep(3000 + random_below(word, 40000));
        int status = 0;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); // it did not end by itself
        struct checkpoint c;
        int64_t step = -2;
        assert_int_equal(checkpoint_read_newest(&c, s->folder, &step), RETORT_OK);
        assert_true(step >= newest);
        if (step >= 0)
            check_content(&c, REAL_F32, step);
        checkpoint_free(&c);
        newest = step;
        // Three checkpoints and one that was about to go, the best, best.h5 and last.h5.
        assert_true(scratch_entries(s) <= 7); // reading removed what was under construction
    }
    assert_true(newest > 3); // on slow disks after more trials
}

static void test_leftovers(void **state)
{
    struct scratch *s = *state;
    pid_t dead = fork(), alive;
    if (dead == 0)
        _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    alive = fork();
    if (alive == 0) {
        pause();
        _exit(0);
    }
    char left[64], busy[64];
    (void)snprintf(left, sizeof left, "ckpt-000000004.h5.%ld.partial", (long)dead);
    (void)snprintf(busy, sizeof busy, "ckpt-000000004.h5.%ld.partial", (long)alive);
    scratch_store(scratch_path(s, left), "x", 1);
    scratch_store(scratch_path(s, busy), "x", 1);
    scratch_store(scratch_path(s, "notes.partial"), "x", 1);
    assert_int_equal(write_step(s->folder, 5, 3), RETORT_OK);
    bool left_is_there = has(s, left), busy_is_there = has(s, busy);
    assert_int_equal(kill(alive, SIGKILL), 0);
    assert_int_equal(waitpid(alive, NULL, 0), alive);
    assert_false(left_is_there);
    assert_true(busy_is_there);
    assert_true(has(s, "notes.partial"));
    check_newest(s->folder, 5);
    assert_false(has(s, busy));
}

static void test_arena_checksum(void **state)
{
    (void)state;
    float f[3] = {1, 2, 3};
    double d[3] = {1, 2, 3};
    char a[33], b[33], c[33];
    checkpoint_arena_checksum(f, 3, REAL_F32, a);
    checkpoint_arena_checksum(d, 3, REAL_F64, b);
    assert_int_equal(strlen(a), 32);
    assert_string_not_equal(a, b);
    f[2] = nextafterf(3, 4);
    checkpoint_arena_checksum(f, 3, REAL_F32, c);
    assert_string_not_equal(a, c);
    checkpoint_arena_checksum(f, 0, REAL_F32, c);
    assert_string_equal(c, "99aa06d3014798d86001c324468d497f"); // XXH3-128 of nothing
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_weights_alone),
        TEST(test_newest),
        TEST(test_damaged_ones),
        TEST(test_retention),
        TEST(test_retention_counts_whole_ones),
        TEST(test_link_is_repeated),
        TEST(test_only_finite_values_are_written),
        TEST(test_kills),
        TEST(test_leftovers),
        cmocka_unit_test(test_arena_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
