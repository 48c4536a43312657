#include "base/arith/augment.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "tests/models/support.h"

enum { HEIGHT = 10, WIDTH = 13, PICTURE = HEIGHT * WIDTH * 3, COUNT = 40 };

static const struct picture_format FORMAT = {
    .height = HEIGHT, .width = WIDTH, .mean = {0.48, 0.45, 0.4}, .deviation = {0.28, 0.27, 0.26}};

struct fixture {
    struct host_engine host;
    struct input *in;
    uint8_t pixels[COUNT * PICTURE];
    int64_t slot[COUNT], id[COUNT];
    uint64_t digests[COUNT];
    struct picture_batch batch;
};

static void fixture_open(struct fixture *f, enum real_type real, int threads)
{
    struct engine *e = host_only_engine(&f->host, real, threads);
    assert_int_equal(input_create(&f->in, e, &FORMAT, COUNT), 0);
    for (size_t i = 0; i < sizeof(f->pixels); i++)
        f->pixels[i] = (uint8_t)random_draw(9, RANDOM_SYNTH, 0, i).v[0];
    for (int i = 0; i < COUNT; i++) {
        f->slot[i] = (i * 7 + 3) % COUNT;
        f->id[i] = 1000 + f->slot[i];
    }
    f->batch = (struct picture_batch){.pixels = f->pixels,
                                      .slot = f->slot,
                                      .sample_id = f->id,
                                      .count = COUNT,
                                      .augment = AUGMENT_CROP_FLIP,
                                      .seed = 5,
                                      .domain = RANDOM_AUGMENT_STUDENT,
                                      .view = 2};
}

static void load(struct fixture *f)
{
    assert_int_equal(input_load(f->in, &f->batch, f->digests), 0);
}

// Pads by reflection into a larger picture, cuts the window, mirrors: as torchvision does it.
static void augment_slowly(uint8_t *out, const uint8_t *in, int top, int left, int flip)
{
    enum { PAD = 4, H = HEIGHT + 2 * PAD, W = WIDTH + 2 * PAD };
    uint8_t padded[H][W][3];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            int from_y = y - PAD, from_x = x - PAD;
            from_y = from_y < 0 ? -from_y : from_y >= HEIGHT ? 2 * HEIGHT - 2 - from_y : from_y;
            from_x = from_x < 0 ? -from_x : from_x >= WIDTH ? 2 * WIDTH - 2 - from_x : from_x;
            memcpy(padded[y][x], in + (from_y * WIDTH + from_x) * 3, 3);
        }
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            memcpy(out + (y * WIDTH + x) * 3, padded[y + top][left + (flip ? WIDTH - 1 - x : x)],
                   3);
}

static void reflection_leaves_the_edge_out(void **state)
{
    (void)state;
    const int expected[] = {4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 4, 3, 2, 1}; // of -4 … 9 in [0, 6)
    for (int at = -4; at < 10; at++)
        assert_int_equal(augment_reflect(at, 6), expected[at + 4]);
}

static void choices_cover_the_window_evenly(void **state)
{
    (void)state;
    int dy[9] = {0}, dx[9] = {0}, flips = 0;
    for (uint64_t id = 0; id < 9000; id++) {
        struct augment_choice c =
            augment_choose(AUGMENT_CROP_FLIP, 1, RANDOM_AUGMENT_TEACHER, 0, id);
        dy[c.dy + 4]++;
        dx[c.dx + 4]++;
        flips += c.flip;
    }
    for (int i = 0; i < 9; i++) { // 1000 ± 5 standard deviations
        assert_in_range(dy[i], 850, 1150);
        assert_in_range(dx[i], 850, 1150);
    }
    assert_in_range(flips, 4260, 4740);
}

static void pictures_are_padded_cut_and_mirrored(void **state)
{
    (void)state;
    struct fixture f;
    const enum real_type reals[] = {REAL_F32, REAL_F64};
    for (int r = 0; r < 2; r++) {
        fixture_open(&f, reals[r], 1);
        load(&f);
        for (int i = 0; i < COUNT; i++) {
            uint8_t expected[PICTURE];
            struct random_block block = random_draw(5, RANDOM_AUGMENT_STUDENT, 2, f.id[i]);
            augment_slowly(expected, f.pixels + f.slot[i] * PICTURE,
                           (int)random_below(block.v[0], 9), (int)random_below(block.v[1], 9),
                           (int)(block.v[2] & 1));
            assert_true(f.digests[i] == XXH3_64bits(expected, PICTURE));
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < HEIGHT * WIDTH; p++) {
                    double v = (expected[p * 3 + c] / 255.0 - FORMAT.mean[c]) / FORMAT.deviation[c];
                    size_t at = (size_t)i * PICTURE + c * HEIGHT * WIDTH + p;
                    const void *values = host_input_of(f.in)->values;
                    if (reals[r] == REAL_F64)
                        assert_true(((const double *)values)[at] == v);
                    else
                        assert_true(((const float *)values)[at] == (float)v);
                }
        }
        input_destroy(&f.in);
    }
}

static void without_augmentation_pixels_are_as_stored(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, REAL_F32, 1);
    f.batch.augment = AUGMENT_NONE;
    load(&f);
    for (int i = 0; i < COUNT; i++)
        assert_true(f.digests[i] == XXH3_64bits(f.pixels + f.slot[i] * PICTURE, PICTURE));
    input_destroy(&f.in);
}

// The same samples alone, in another order and on other threads are the same pictures; another
// view, domain or seed gives others.
static void pictures_do_not_depend_on_their_batch(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t before[COUNT];
    fixture_open(&f, REAL_F32, 1);
    load(&f);
    memcpy(before, f.digests, sizeof(before));
    const float *values = host_input_of(f.in)->values;
    float picture[PICTURE];
    memcpy(picture, values + 17 * PICTURE, sizeof(picture));

    f.batch.slot = f.slot + 17;
    f.batch.sample_id = f.id + 17;
    f.batch.count = 1;
    load(&f);
    assert_int_equal(host_input_of(f.in)->count, 1);
    assert_true(f.digests[0] == before[17]);
    assert_memory_equal(values, picture, sizeof(picture));
    for (int what = 0; what < 3; what++) {
        struct picture_batch kept = f.batch;
        f.batch.view += what == 0;
        f.batch.seed += what == 1;
        f.batch.domain = what == 2 ? RANDOM_AUGMENT_TEACHER : f.batch.domain;
        load(&f);
        assert_true(f.digests[0] != before[17]);
        f.batch = kept;
    }
    f.batch.count = 0;
    load(&f);
    assert_int_equal(host_input_of(f.in)->count, 0);
    input_destroy(&f.in);

    fixture_open(&f, REAL_F32, 3);
    load(&f);
    assert_memory_equal(f.digests, before, sizeof(before));
    values = host_input_of(f.in)->values;
    assert_memory_equal(values + 17 * PICTURE, picture, sizeof(picture));
    input_destroy(&f.in);
}

static void what_cannot_be_normalised_is_refused(void **state)
{
    (void)state;
    struct host_engine host;
    struct engine *e = host_only_engine(&host, REAL_F32, 1);
    struct input *in = NULL;
    struct picture_format flat = FORMAT, tiny = FORMAT;
    flat.deviation[1] = 0.0;
    assert_int_equal(input_create(&in, e, &flat, 1), RETORT_INPUT);
    assert_null(in);
    tiny.height = 4;
    assert_int_equal(input_create(&in, e, &tiny, 1), 0);
    struct fixture f;
    fixture_open(&f, REAL_F32, 1);
    f.batch.count = 1;
    assert_int_equal(input_load(in, &f.batch, NULL), RETORT_USAGE);
    f.batch.augment = AUGMENT_NONE;
    assert_int_equal(input_load(in, &f.batch, NULL), 0);
    input_destroy(&in);
    input_destroy(&f.in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reflection_leaves_the_edge_out),
        cmocka_unit_test(choices_cover_the_window_evenly),
        cmocka_unit_test(pictures_are_padded_cut_and_mirrored),
        cmocka_unit_test(without_augmentation_pixels_are_as_stored),
        cmocka_unit_test(pictures_do_not_depend_on_their_batch),
        cmocka_unit_test(what_cannot_be_normalised_is_refused),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
