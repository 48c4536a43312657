// Shards under MPI: after every exchange the pixels at a slot are those of the file's row, whatever
// memory they lie in.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "data/shard.h"
#include "tests/data/pixels.h"

enum { SIDE = 5, PICTURE = SIDE * SIDE * 3, CLASSES = 7, TRAIN = 1009, VAL = 300 };

static struct {
    struct test_pixels pixels;
    struct comm *comm; // of pixels
    struct dataset dataset;
    char path[PATH_CAPACITY];
    bool at_home;       // shards are asked to lie in the memory of `pixels`
    int taken, refused; // allocations there now; which one fails, from 1; 0: none
} test;

// ---- memory that counts, and that may have no room

static void *counted_alloc(void *context, size_t bytes)
{
    const struct pixel_memory *m = context;
    if (test.taken + 1 == test.refused)
        return NULL;
    test.taken++;
    return m->alloc(m->context, bytes);
}

static void counted_free(void *context, void *p)
{
    const struct pixel_memory *m = context;
    test.taken -= p != NULL;
    m->free(m->context, p);
}

static int counted_upload(void *context, void *to, const void *from, size_t bytes)
{
    const struct pixel_memory *m = context;
    return m->upload(m->context, to, from, bytes);
}

static int counted_gather(void *context, void *to, const void *from, const int64_t *rows,
                          int64_t count, size_t row_bytes)
{
    const struct pixel_memory *m = context;
    return m->gather(m->context, to, from, rows, count, row_bytes);
}

// ---- the data set

// What the file holds: a picture is a function of split and row.
static void draw_picture(enum dataset_split split, int64_t row, uint8_t *out)
{
    for (int i = 0; i < PICTURE; i += 16) {
        struct random_block r =
            random_draw(7, RANDOM_SYNTH, (uint32_t)split * 1000 + (uint32_t)i, (uint64_t)row);
        memcpy(out + i, &r, (size_t)(PICTURE - i < 16 ? PICTURE - i : 16));
    }
}

static int32_t label_of(enum dataset_split split, int64_t row)
{
    return (int32_t)((row * 5 + split) % CLASSES);
}

static int write_split(struct dataset_writer *w, enum dataset_split split, int64_t count)
{
    static uint8_t pixels[DATASET_BLOCK][PICTURE];
    int32_t labels[DATASET_BLOCK];
    int rc = RETORT_OK;
    for (int64_t first = 0; rc == RETORT_OK && first < count; first += DATASET_BLOCK) {
        int64_t rows = count - first < DATASET_BLOCK ? count - first : DATASET_BLOCK;
        for (int64_t i = 0; i < rows; i++) {
            draw_picture(split, first + i, pixels[i]);
            labels[i] = label_of(split, first + i);
        }
        rc = dataset_writer_put(w, split, first, rows, pixels[0], labels);
    }
    return rc;
}

static int write_dataset(const char *path)
{
    static const char *const NAMES[CLASSES] = {"a", "b", "c", "d", "e", "f", "g"};
    struct dataset_header h = {.count = {TRAIN, VAL},
                               .height = SIDE,
                               .width = SIDE,
                               .class_count = CLASSES,
                               .class_ids = NAMES,
                               .class_names = NAMES,
                               .source = "test_shard"};
    struct dataset_writer *w = NULL;
    int rc;
    TRY(dataset_writer_create(&w, path, &h));
    TRY(write_split(w, SPLIT_TRAIN, TRAIN));
    TRY(write_split(w, SPLIT_VAL, VAL));
    return dataset_writer_commit(&w);
fail:
    dataset_writer_discard(&w);
    return rc;
}

// Rank 0 writes the file for all.
static int open_test(void **state)
{
    (void)state;
    char folder[] = "/tmp/retort-shard-XXXXXX";
    int rc = RETORT_OK;
    if (comm_rank(test.comm) == 0) {
        rc = mkdtemp(folder) ? path_join(test.path, folder, "data.h5") : RETORT_FAILED;
        if (rc == RETORT_OK)
            rc = write_dataset(test.path);
    }
    rc = comm_agree(test.comm, rc);
    if (rc == RETORT_OK)
        rc = comm_broadcast(test.comm, test.path, sizeof test.path, 0);
    return rc == RETORT_OK ? dataset_open(&test.dataset, test.path) : rc;
}

static int close_test(void **state)
{
    (void)state;
    dataset_close(&test.dataset);
    comm_barrier(test.comm);
    if (comm_rank(test.comm) == 0) {
        unlink(test.path);
        *strrchr(test.path, '/') = '\0';
        rmdir(test.path);
    }
    return 0;
}

static struct sampler make_sampler(int64_t batch, int64_t microbatches, int64_t shuffle)
{
    return (struct sampler){.count = TRAIN,
                            .batch = batch,
                            .microbatches = microbatches,
                            .rank = comm_rank(test.comm),
                            .size = comm_size(test.comm),
                            .shuffle = shuffle,
                            .seed = 99};
}

static struct shard *open_shard_for(enum dataset_split split, const struct sampler *samplers,
                                    int count)
{
    struct shard *s = NULL;
    const struct shard_home home = {.memory = {.context = &test.pixels.memory,
                                               .alloc = counted_alloc,
                                               .free = counted_free,
                                               .upload = counted_upload,
                                               .gather = counted_gather},
                                    .samplers = samplers,
                                    .sampler_count = count};
    assert_int_equal(shard_open(&s, test.comm, &test.dataset, split, test.at_home ? &home : NULL),
                     RETORT_OK);
    return s;
}

// A shard for all samplers of these tests.
static struct shard *open_shard(enum dataset_split split)
{
    const struct sampler samplers[] = {
        make_sampler(47, 5, SHUFFLE_GLOBAL), make_sampler(TRAIN + 10, 4, SHUFFLE_GLOBAL),
        make_sampler(16, 4, SHUFFLE_GLOBAL), make_sampler(50, 4, SHUFFLE_GLOBAL),
        make_sampler(33, 4, SHUFFLE_GLOBAL)};
    const int count = sizeof samplers / sizeof *samplers;
    return open_shard_for(split, samplers, split == SPLIT_TRAIN ? count : 0);
}

static void check_picture(const struct shard *s, enum dataset_split split, int64_t sample,
                          int64_t slot)
{
    uint8_t expected[PICTURE], found[PICTURE];
    draw_picture(split, sample, expected);
    test.pixels.get(found, shard_pixels(s) + (size_t)slot * PICTURE, PICTURE);
    assert_memory_equal(found, expected, PICTURE);
}

// Walks a step as the trainer does; seen[sample] counts this rank's visits.
static void check_step(const struct shard *s, const struct sampler *sampler, int64_t epoch,
                       int64_t step, int32_t *seen)
{
    int64_t own_first, own_last, first, last, sample[TRAIN], slot[TRAIN];
    sampler_own(sampler, &own_first, &own_last);
    for (int64_t m = own_first; m < own_last; m++) {
        sampler_microbatch(sampler, step, m, &first, &last);
        assert_int_equal(shard_slots(s, first, last, sample, slot), RETORT_OK);
        for (int64_t i = 0; i < last - first; i++) {
            assert_int_equal(sample[i], sampler_sample(sampler, epoch, first + i));
            check_picture(s, SPLIT_TRAIN, sample[i], slot[i]);
            seen[sample[i]]++;
        }
    }
}

// Every sample was seen once by one rank.
static void check_seen(const int32_t *seen)
{
    int size = comm_size(test.comm);
    int32_t *all = malloc((size_t)size * TRAIN * sizeof *all);
    assert_int_equal(comm_allgather(test.comm, seen, TRAIN * sizeof *seen, all), RETORT_OK);
    for (int i = 0; i < TRAIN; i++) {
        int visits = 0;
        for (int r = 0; r < size; r++)
            visits += all[r * TRAIN + i];
        assert_int_equal(visits, 1);
    }
    free(all);
}

// An epoch with `calls` of shard_progress spread over it, bringing `next` (none when < 0).
static void run_epoch(struct shard *s, const struct sampler *sampler, int64_t epoch, int64_t next,
                      int64_t calls)
{
    static int32_t seen[TRAIN];
    memset(seen, 0, sizeof seen);
    assert_int_equal(shard_begin_epoch(s, sampler, epoch), RETORT_OK);
    if (next >= 0)
        assert_int_equal(shard_prefetch(s, sampler, next), RETORT_OK);
    for (int64_t step = 0; step < sampler_steps(sampler); step++) {
        check_step(s, sampler, epoch, step, seen);
        if (step < calls)
            assert_int_equal(shard_progress(s), RETORT_OK);
    }
    check_seen(seen);
}

static void test_file_layout(void **state)
{
    (void)state;
    for (enum dataset_split split = SPLIT_TRAIN; split < SPLIT_COUNT; split++) {
        struct shard *s = open_shard(split);
        int64_t first, last, count = split == SPLIT_TRAIN ? TRAIN : VAL;
        shard_range(s, &first, &last);
        assert_int_equal(shard_count(s), count);
        for (int64_t i = first; i < last; i++)
            check_picture(s, split, i, i - first);
        for (int64_t i = 0; i < count; i++)
            assert_int_equal(shard_labels(s)[i], label_of(split, i));
        shard_close(&s);
        assert_null(s);
    }
}

// Exchanges at the beginning of each epoch, nothing prefetched; batches and parts that divide
// nothing.
static void test_epochs_without_prefetch(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler odd = make_sampler(47, 5, SHUFFLE_GLOBAL);
    struct sampler whole = make_sampler(TRAIN + 10, 4, SHUFFLE_GLOBAL);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        run_epoch(s, &odd, epoch, -1, 0);
        run_epoch(s, &whole, epoch, -1, 0);
    }
    shard_close(&s);
}

static void test_epochs_with_prefetch(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler sampler = make_sampler(16, 4, SHUFFLE_GLOBAL);
    int64_t steps = sampler_steps(&sampler);
    run_epoch(s, &sampler, 0, 1, steps);
    run_epoch(s, &sampler, 1, 2, steps - 1);
    run_epoch(s, &sampler, 2, 3, 7); // stopped short: the rest comes at the beginning
    run_epoch(s, &sampler, 3, -1, steps);
    shard_close(&s);
}

static void test_resume_in_epoch_3(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler sampler = make_sampler(50, 4, SHUFFLE_GLOBAL);
    run_epoch(s, &sampler, 3, 4, 1000);
    run_epoch(s, &sampler, 4, -1, 0);
    shard_close(&s);
}

// What was prefetched is dropped when another epoch, or another stage's sampler, comes instead.
static void test_another_epoch_than_prefetched(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler teacher = make_sampler(50, 4, SHUFFLE_GLOBAL);
    struct sampler student = make_sampler(33, 4, SHUFFLE_GLOBAL);
    run_epoch(s, &teacher, 0, 1, 5);
    run_epoch(s, &teacher, 6, 7, 5);
    run_epoch(s, &student, 7, 8, 3);
    run_epoch(s, &student, 8, 9, 3);
    shard_close(&s); // with an exchange under way
}

static void test_restore_gives_the_rows_of_the_file(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler sampler = make_sampler(50, 4, SHUFFLE_GLOBAL);
    int64_t first, last;
    shard_range(s, &first, &last);
    run_epoch(s, &sampler, 0, 1, 5);
    assert_int_equal(shard_restore(s, &test.dataset), RETORT_OK);
    for (int64_t i = first; i < last; i++)
        check_picture(s, SPLIT_TRAIN, i, i - first);
    run_epoch(s, &sampler, 0, 1, 1000);
    run_epoch(s, &sampler, 1, -1, 0);
    shard_close(&s);
}

static void test_shuffle_shard(void **state)
{
    (void)state;
    struct shard *s = open_shard(SPLIT_TRAIN);
    struct sampler sampler = make_sampler(47, 4, SHUFFLE_SHARD);
    const uint8_t *pixels = shard_pixels(s);
    for (int64_t epoch = 0; epoch < 3; epoch++)
        run_epoch(s, &sampler, epoch, epoch + 1, 1000);
    assert_ptr_equal(shard_pixels(s), pixels); // nothing moved
    shard_close(&s);
}

// Two buffers of an even share and a piece of a thirty-second, at most; a rank that is alone has
// one.
static void test_memory(void **state)
{
    (void)state;
    struct sampler sampler = make_sampler(64, 12, SHUFFLE_GLOBAL);
    struct shard *s = open_shard_for(SPLIT_TRAIN, &sampler, 1);
    int size = comm_size(test.comm);
    size_t tables = TRAIN * (sizeof(int32_t) + (size_t)(size > 1 ? 2 : 1) * sizeof(int64_t));
    size_t share = (size_t)((TRAIN + size - 1) / size + DATASET_BLOCK);
    for (int64_t epoch = 0; epoch < 3; epoch++)
        run_epoch(s, &sampler, epoch, epoch + 1, 1000);
    size_t buffers = shard_memory(s) - tables;
    if (size == 1)
        assert_int_equal(buffers, (size_t)TRAIN * PICTURE);
    else
        assert_in_range(buffers, 2 * (TRAIN / (size_t)size - DATASET_BLOCK) * PICTURE,
                        (2 * share + TRAIN / 32 + 1) * PICTURE);
    assert_int_equal(shard_resident(s), test.at_home ? buffers : 0);
    shard_close(&s);
}

// At home all is taken when the shard is opened, and stays where it is.
static void test_addresses_hold(void **state)
{
    (void)state;
    if (!test.at_home)
        return; // the host's memory is taken as needed
    struct sampler sampler = make_sampler(50, 4, SHUFFLE_GLOBAL);
    struct shard *s = open_shard(SPLIT_TRAIN);
    const bool moves = comm_size(test.comm) > 1;
    const uint8_t *at[2];
    assert_int_equal(test.taken, moves ? 3 : 1); // both buffers, pictures to send, their slots
    for (int64_t epoch = 0; epoch < 6; epoch++) {
        run_epoch(s, &sampler, epoch, epoch + 1, 1000);
        if (epoch >= 2)
            assert_ptr_equal(shard_pixels(s), at[epoch % 2]);
        at[epoch % 2] = shard_pixels(s);
        assert_int_equal(test.taken, moves ? 3 : 1);
    }
    assert_true((at[0] == at[1]) == !moves);
    shard_close(&s);
    assert_int_equal(test.taken, 0);
}

// When one rank has no room, for the buffers or for what is sent, all stay in the host's memory.
static void test_no_room_on_one_rank(void **state)
{
    (void)state;
    if (!test.at_home)
        return;
    struct sampler sampler = make_sampler(50, 4, SHUFFLE_GLOBAL);
    void (*get)(void *, const void *, size_t) = test.pixels.get;
    const int last = comm_size(test.comm) - 1;
    for (int nth = 1; nth <= (last > 0 ? 3 : 1); nth++) {
        test.refused = comm_rank(test.comm) == last ? nth : 0;
        struct shard *s = open_shard(SPLIT_TRAIN);
        assert_int_equal(shard_resident(s), 0);
        assert_int_equal(test.taken, 0); // what was taken was given back
        test.pixels.get = test_pixels_copy;
        run_epoch(s, &sampler, 0, 1, 1000);
        run_epoch(s, &sampler, 1, -1, 0);
        shard_close(&s);
        test.pixels.get = get;
    }
    test.refused = 0;
}

int main(void)
{
    int failed = 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_layout),
        cmocka_unit_test(test_epochs_without_prefetch),
        cmocka_unit_test(test_epochs_with_prefetch),
        cmocka_unit_test(test_resume_in_epoch_3),
        cmocka_unit_test(test_another_epoch_than_prefetched),
        cmocka_unit_test(test_restore_gives_the_rows_of_the_file),
        cmocka_unit_test(test_shuffle_shard),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_addresses_hold),
        cmocka_unit_test(test_no_room_on_one_rank),
    };
    if (!test_pixels_open(&test.pixels))
        return 77; // no GPU: skipped
    test.comm = test.pixels.comm;
    if (test.pixels.host_too)
        failed += cmocka_run_group_tests_name("in the host's memory", tests, open_test, close_test);
    test.at_home = true;
    failed += cmocka_run_group_tests_name("at home", tests, open_test, close_test);
    if (failed)
        comm_abort(test.comm, RETORT_FAILED); // the others may wait for this rank
    test_pixels_close(&test.pixels);
    return 0;
}
