// Every kind of checkpoint and file of logits with a bit flipped or its end cut off: never taken
// for whole, named in one line, and the checkpoint before it is used, the view computed again.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "data/checkpoint.h"
#include "data/eval_logits.h"
#include "data/logits.h"
#include "data/logits_file.h"
#include "tests/data/scratch.h"

enum {
    FLIPS = 1000,
    CUTS = 200,
    TOTAL = 600,
    TRAINABLE = 500,
    VIEWS = 2,
    SAMPLES = 140,
    CLASSES = 5
};

// The same file with one thing wrong at a time; the rest of it is put back.
struct victim {
    const char *path;
    int64_t bytes;
    int fd;
    uint8_t *whole;
};

static struct victim victim_open(const char *path)
{
    struct victim v = {.path = path, .bytes = file_size(path), .fd = open(path, O_WRONLY)};
    size_t bytes;
    v.whole = scratch_load(path, &bytes);
    assert_true(v.fd >= 0);
    return v;
}

static void victim_close(struct victim *v)
{
    close(v->fd);
    free(v->whole);
}

static void victim_put(const struct victim *v, int64_t at, uint8_t mask)
{
    uint8_t byte = v->whole[at] ^ mask;
    assert_int_equal(pwrite(v->fd, &byte, 1, at), 1);
}

static void victim_cut(const struct victim *v, int64_t length)
{
    assert_int_equal(ftruncate(v->fd, length), 0);
}

static void victim_heal(const struct victim *v)
{
    assert_int_equal(pwrite(v->fd, v->whole, (size_t)v->bytes, 0), v->bytes);
}

// Opens a file with the reader of its kind, all of it; the code.
typedef int reader(const char *path);

static int read_checkpoint(const char *path)
{
    struct checkpoint c;
    int rc = checkpoint_read(&c, path, false);
    checkpoint_free(&c);
    return rc;
}

static int read_views(const char *path, int64_t views)
{
    struct logit_store s;
    static uint16_t logits[SAMPLES * CLASSES];
    static uint64_t digests[SAMPLES];
    int rc = logits_file_open(&s, path, views, false);
    for (int64_t view = 0; rc == RETORT_OK && view < views; view++)
        rc = logit_store_read(&s, view, 0, SAMPLES, logits, digests);
    logit_store_close(&s);
    return rc;
}

static int read_logits(const char *path)
{
    return read_views(path, VIEWS);
}

static int read_part(const char *path)
{
    return read_views(path, 1);
}

static int read_eval_logits(const char *path)
{
    struct h5file f;
    static float logits[SAMPLES * CLASSES];
    static int32_t labels[SAMPLES];
    int rc = h5file_open(&f, path, H5_KIND_EVAL_LOGITS, false);
    if (rc == RETORT_OK)
        rc = h5_read_rows(&f, "/logits", H5T_NATIVE_FLOAT, 0, SAMPLES, logits);
    if (rc == RETORT_OK)
        rc = h5_read_rows(&f, "/labels", H5T_NATIVE_INT32, 0, SAMPLES, labels);
    h5file_close(&f);
    return rc;
}

// Thousands of refusals go to the log alone.
static int silence(void)
{
    int kept = dup(STDERR_FILENO), nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
    return kept;
}

static void speak(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

// One line, of an error, that names the file; the log is empty afterwards.
static bool said_once(const struct scratch *s, const char *path)
{
    size_t bytes;
    char *text = (char *)scratch_load(s->log, &bytes);
    const char *end = strchr(text, '\n');
    bool once = strncmp(text, "error: ", 7) == 0 && strstr(text, path) && end && !end[1];
    free(text);
    assert_int_equal(truncate(s->log, 0), 0);
    return once;
}

static uint32_t draw(int what, int trial)
{
    return random_draw(17, RANDOM_VERIFY, (uint32_t)what, (uint64_t)trial).v[0];
}

static void check_flip(const struct scratch *s, const struct victim *v, reader *read, int64_t at,
                       uint8_t mask)
{
    victim_put(v, at, mask);
    if (read(v->path) != RETORT_INPUT || !said_once(s, v->path))
        fail_msg("%s with bit mask %d of byte %lld flipped", v->path, mask, (long long)at);
    victim_put(v, at, 0);
}

// Seeded positions in all of the file, and every byte of the user block.
static void check_damage(const struct scratch *s, const char *path, reader *read)
{
    struct victim v = victim_open(path);
    assert_int_equal(read(path), RETORT_OK);
    int kept = silence();
    for (int trial = 0; trial < FLIPS; trial++)
        check_flip(s, &v, read, random_below(draw(0, trial), (uint32_t)v.bytes),
                   (uint8_t)(1u << (draw(1, trial) & 7u)));
    for (int at = 0; at < USERBLOCK_BYTES; at++)
        check_flip(s, &v, read, at, (uint8_t)(1u << (draw(7, at) & 7u)));
    for (int trial = 0; trial < CUTS; trial++) {
        int64_t length = random_below(draw(2, trial), (uint32_t)v.bytes);
        length = trial < 3 ? trial * USERBLOCK_BYTES : trial == 3 ? v.bytes - 1 : length;
        victim_cut(&v, length);
        if (read(path) != RETORT_INPUT || !said_once(s, path))
            fail_msg("%s cut at %lld of %lld bytes", path, (long long)length, (long long)v.bytes);
        victim_heal(&v);
    }
    speak(kept);
    assert_int_equal(read(path), RETORT_OK);
    victim_close(&v);
}

enum { HAS_EMA = 1, HAS_MOMENT1 = 2, HAS_MOMENT2 = 4, IS_F64 = 8 };

// A checkpoint of a step with the arenas of `has`; every value is the step's number.
static void write_checkpoint(const char *folder, int64_t step, int has)
{
    static char layout[] = "[]", recipe[] = "run: {seed: 1}\n", dataset[] = "0123",
                classes[] = "[]";
    static union {
        float f[TOTAL];
        double d[TOTAL];
    } arena;
    for (int i = 0; i < TOTAL; i++)
        if (has & IS_F64)
            arena.d[i] = (double)step;
        else
            arena.f[i] = (float)step;
    struct checkpoint c = {.real = has & IS_F64 ? REAL_F64 : REAL_F32,
                           .total = TOTAL,
                           .trainable = TRAINABLE,
                           .weights = &arena,
                           .ema = has & HAS_EMA ? &arena : NULL,
                           .moment1 = has & HAS_MOMENT1 ? &arena : NULL,
                           .moment2 = has & HAS_MOMENT2 ? &arena : NULL,
                           .state = json_pack("{s:I}", "step", (json_int_t)step),
                           .layout = layout,
                           .recipe = recipe,
                           .dataset = dataset,
                           .classes = classes};
    assert_int_equal(checkpoint_write(folder, step, &c, 9), RETORT_OK);
    json_decref(c.state);
}

// A teacher by SGD, a student with its average and by AdamW, one in double.
static void test_checkpoints(void **state)
{
    struct scratch *s = *state;
    const int kinds[] = {HAS_MOMENT1, HAS_EMA | HAS_MOMENT1, HAS_EMA | HAS_MOMENT1 | HAS_MOMENT2,
                         IS_F64 | HAS_EMA};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        write_checkpoint(s->folder, (int64_t)i, kinds[i]);
        char name[32];
        (void)snprintf(name, sizeof name, "ckpt-%09d.h5", (int)i);
        check_damage(s, scratch_path(s, name), read_checkpoint);
    }
}

static void logit_identity(struct logit_identity *id)
{
    *id = (struct logit_identity){.views = VIEWS, .samples = SAMPLES, .classes = CLASSES};
    id->seed = 3;
    memcpy(id->precision, "f32", 4);
}

// A pass that made `views` of its views: a store when those are all.
static void write_logits(const char *path, int views)
{
    struct logit_identity id;
    struct logit_writer *w;
    static uint16_t logits[SAMPLES * CLASSES];
    static uint64_t digests[SAMPLES];
    int64_t next;
    logit_identity(&id);
    for (int i = 0; i < SAMPLES * CLASSES; i++)
        logits[i] = (uint16_t)(draw(3, i) & 0xbfffu);
    assert_int_equal(logit_writer_create(&w, path, &id, &next), RETORT_OK);
    for (int view = 0; view < views; view++) {
        assert_int_equal(logit_writer_put(w, 0, SAMPLES, logits, digests), RETORT_OK);
        assert_int_equal(logit_writer_end_view(w), RETORT_OK);
    }
    if (views == VIEWS)
        assert_int_equal(logit_writer_commit(&w), RETORT_OK);
    else
        logit_writer_discard(&w);
}

static void test_logits(void **state)
{
    struct scratch *s = *state;
    const char *path = scratch_path(s, "logits.h5");
    write_logits(path, VIEWS);
    check_damage(s, path, read_logits);
}

static void test_eval_logits(void **state)
{
    struct scratch *s = *state;
    const char *path = scratch_path(s, "eval.h5");
    static float logits[SAMPLES * CLASSES];
    static int32_t labels[SAMPLES];
    const struct eval_logits_header header = {.count = SAMPLES,
                                              .classes = CLASSES,
                                              .real = REAL_F32,
                                              .split = SPLIT_VAL,
                                              .weights = "raw",
                                              .dataset = "0123",
                                              .checkpoint = "4567",
                                              .class_names = "[]",
                                              .labels = labels};
    struct h5file f;
    for (int i = 0; i < SAMPLES * CLASSES; i++)
        logits[i] = (float)draw(8, i);
    assert_int_equal(eval_logits_create(&f, path, &header), RETORT_OK);
    assert_int_equal(eval_logits_put(&f, REAL_F32, 0, SAMPLES, logits), RETORT_OK);
    assert_int_equal(h5file_commit(&f), RETORT_OK);
    check_damage(s, path, read_eval_logits);
}

// The first view that a pass which goes on at `path` would compute.
static int64_t next_view(const char *path)
{
    struct logit_identity id;
    struct logit_writer *w;
    int64_t next;
    logit_identity(&id);
    assert_int_equal(logit_writer_create(&w, path, &id, &next), RETORT_OK);
    logit_writer_discard(&w);
    return next;
}

// The view is computed again, and one line says why.
static void check_computed_again(const struct scratch *s, const char *store, const char *part,
                                 const uint8_t *bytes, size_t count)
{
    scratch_store(part, bytes, count);
    assert_int_equal(next_view(store), 0);
    size_t log_bytes;
    char *text = (char *)scratch_load(s->log, &log_bytes);
    const char *end = strchr(text, '\n');
    if (strncmp(text, "warning: ", 9) != 0 || !strstr(text, part) || !end || end[1])
        fail_msg("of a damaged view is said: %s", text);
    free(text);
    assert_int_equal(truncate(s->log, 0), 0);
}

static void test_views(void **state)
{
    enum { TRIALS = 50 };
    struct scratch *s = *state;
    const char *store = scratch_path(s, "logits.h5"), *part = scratch_path(s, "logits.h5.view0");
    write_logits(store, 1);
    check_damage(s, part, read_part);
    assert_int_equal(next_view(store), 1); // whole, it is kept

    size_t count;
    uint8_t *bytes = scratch_load(part, &count);
    int kept = silence();
    for (int trial = 0; trial < TRIALS; trial++) {
        size_t at = (size_t)random_below(draw(9, trial), (uint32_t)count);
        bytes[at] ^= 1;
        check_computed_again(s, store, part, bytes, count);
        bytes[at] ^= 1;
        check_computed_again(s, store, part, bytes, at);
    }
    speak(kept);
    free(bytes);
}

// The newest is damaged at a time: the one before it is read, and one line says so.
static bool falls_back(struct scratch *s)
{
    struct checkpoint c;
    int64_t step;
    size_t bytes;
    if (checkpoint_read_newest(&c, s->folder, &step) != RETORT_OK || step != 1)
        return false;
    bool right = ((float *)c.weights)[TOTAL - 1] == 1.0f && ((float *)c.ema)[0] == 1.0f &&
                 ((float *)c.moment1)[0] == 1.0f && ((float *)c.moment2)[TRAINABLE - 1] == 1.0f;
    checkpoint_free(&c);
    char *text = (char *)scratch_load(s->log, &bytes);
    static const char START[] = "warning: ",
                      END[] = "is damaged; the checkpoint before it is tried\n";
    const char *line_end = strchr(text, '\n');
    right &= strncmp(text, START, sizeof START - 1) == 0 && strstr(text, "ckpt-000000002.h5") &&
             strstr(text, END) && line_end && !line_end[1];
    free(text);
    assert_int_equal(truncate(s->log, 0), 0);
    return right;
}

static void test_the_one_before_is_used(void **state)
{
    struct scratch *s = *state;
    const int kind = HAS_EMA | HAS_MOMENT1 | HAS_MOMENT2;
    write_checkpoint(s->folder, 1, kind);
    write_checkpoint(s->folder, 2, kind);
    struct victim v = victim_open(scratch_path(s, "ckpt-000000002.h5"));
    int kept = silence();
    for (int trial = 0; trial < FLIPS; trial++) {
        int64_t at = random_below(draw(4, trial), (uint32_t)v.bytes);
        victim_put(&v, at, (uint8_t)(1u << (draw(5, trial) & 7u)));
        if (!falls_back(s))
            fail_msg("a bit of byte %lld flipped", (long long)at);
        victim_put(&v, at, 0);
    }
    for (int trial = 0; trial < CUTS; trial++) {
        int64_t length = random_below(draw(6, trial), (uint32_t)v.bytes);
        victim_cut(&v, length);
        if (!falls_back(s))
            fail_msg("cut at %lld bytes", (long long)length);
        victim_heal(&v);
    }
    speak(kept);
    victim_close(&v);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_checkpoints), TEST(test_logits),
                                       TEST(test_eval_logits), TEST(test_views),
                                       TEST(test_the_one_before_is_used)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
