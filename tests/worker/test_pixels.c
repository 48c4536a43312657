// What the networks are really given, in whole stages on this many ranks: which pictures in which
// augmentation, and for the student which logits with them. Every batch is looked at on its way
// into the engine, and held against a run on one rank and against the file of logits.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "data/logits.h"
#include "tests/worker/pair.h"
#include "worker/run.h"

enum { SAMPLES = 160, CLASSES = 4, EPOCHS = 3, VIEWS = 2 };

// What this process gave its networks in one stage, of each view (of the teacher's training:
// epoch).
struct seen {
    int loaded[EPOCHS][SAMPLES], asked[EPOCHS][SAMPLES]; // how often
    uint64_t digest[EPOCHS][SAMPLES];                    // of the augmented pixels
    uint16_t teacher[EPOCHS][SAMPLES][CLASSES];
};
static struct seen *now; // of the stage under way; NULL: nothing is looked at
static uint32_t view;    // of the last batch

int __real_input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests);
int __wrap_input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests);
int __real_network_loss(struct network *n, const struct loss_targets *targets,
                        const struct loss_spec *spec, const struct step_scalars *scalars,
                        double *sums);
int __wrap_network_loss(struct network *n, const struct loss_targets *targets,
                        const struct loss_spec *spec, const struct step_scalars *scalars,
                        double *sums);

// Evaluation takes pictures as they are, and the logit pass asks for digests itself.
int __wrap_input_load(struct input *in, const struct picture_batch *batch, uint64_t *digests)
{
    uint64_t own[SAMPLES];
    bool trains = now && !digests && batch->augment == AUGMENT_CROP_FLIP;
    int rc = __real_input_load(in, batch, trains ? own : digests);
    if (trains)
        assert_in_range(view = batch->view, 0, EPOCHS - 1);
    for (int i = 0; trains && i < batch->count; i++) {
        int64_t id = batch->sample_id[i];
        assert_in_range(id, 0, SAMPLES - 1);
        assert_true(now->loaded[view][id]++ == 0 || now->digest[view][id] == own[i]);
        now->digest[view][id] = own[i];
    }
    return rc;
}

int __wrap_network_loss(struct network *n, const struct loss_targets *targets,
                        const struct loss_spec *spec, const struct step_scalars *scalars,
                        double *sums)
{
    for (int i = 0; now && targets->teacher && i < targets->count; i++) {
        int64_t id = targets->sample_id[i];
        now->asked[view][id]++;
        memcpy(now->teacher[view][id], targets->teacher + id * CLASSES,
               sizeof now->teacher[view][id]);
    }
    return __real_network_loss(n, targets, spec, scalars, sums);
}

// Nothing that outlives the test is written, and flushing would be most of it.
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}
int __wrap_fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static struct stages {
    struct seen *teacher, *baseline, *student; // owned
    char folder[PATH_CAPACITY];
} together, alone;

static struct seen *run_stage(struct comm *comm, const char *folder, const char *stages)
{
    bool agreed;
    const char *device = getenv("RETORT_DEVICE");
    struct seen *s = now = calloc(1, sizeof *s);
    assert_non_null(s);
    assert_int_equal(run_stages(comm, folder, device ? device : "cpu", stages, &agreed), RETORT_OK);
    now = NULL;
    return s;
}

// The pair's recipe with one more epoch of the student than there are views.
static void run_all(struct stages *s, struct comm *comm, const struct rank *like)
{
    struct recipe recipe = like->recipe;
    char path[PATH_CAPACITY], *text;
    recipe.student.epochs = EPOCHS;
    recipe.logits.views = VIEWS;
    assert_int_equal(path_join(s->folder, like->folder, "run"), RETORT_OK);
    if (comm_rank(comm) == 0) {
        assert_int_equal(recipe_to_text(&recipe, &text), RETORT_OK);
        assert_int_equal(folder_create(s->folder), RETORT_OK);
        assert_int_equal(path_join(path, s->folder, "recipe.yaml"), RETORT_OK);
        assert_int_equal(file_write_whole(path, text, strlen(text)), RETORT_OK);
        free(text);
    }
    assert_int_equal(comm_barrier(comm), RETORT_OK);
    s->teacher = run_stage(comm, s->folder, "teacher");
    free(run_stage(comm, s->folder, "logits"));
    s->baseline = run_stage(comm, s->folder, "baseline");
    s->student = run_stage(comm, s->folder, "student");
}

static void runs_end(void **state)
{
    (void)state;
    run_all(&together, pair.all, &pair.together);
    run_all(&alone, pair.self, &pair.alone);
}

// Over all ranks every sample came once an epoch, and where it came here it was what the run on one
// rank saw. Epoch e sees view e modulo `views`.
static void assert_same_pixels(const struct seen *s, const struct seen *one, int epochs, int views)
{
    for (int v = 0; v < views; v++) {
        double loaded[SAMPLES];
        int expected = (epochs - v + views - 1) / views;
        for (int i = 0; i < SAMPLES; i++)
            loaded[i] = s->loaded[v][i];
        assert_int_equal(comm_allreduce_sum(pair.all, loaded, SAMPLES, REAL_F64, true), RETORT_OK);
        for (int i = 0; i < SAMPLES; i++) {
            assert_int_equal((int)loaded[i], expected);
            assert_int_equal(one->loaded[v][i], expected);
            assert_true(s->loaded[v][i] == 0 || s->digest[v][i] == one->digest[v][i]);
        }
    }
}

static void ranks_change_no_pixel(void **state)
{
    (void)state;
    assert_same_pixels(together.teacher, alone.teacher, 2, 2);
    assert_same_pixels(together.baseline, alone.baseline, EPOCHS, VIEWS);
    assert_same_pixels(together.student, alone.student, EPOCHS, VIEWS);
}

// How many of the pictures look the same: of those that have nothing in common one or two.
static int alike(const uint64_t *a, const uint64_t *b)
{
    int count = 0;
    for (int i = 0; i < SAMPLES; i++)
        count += a[i] == b[i];
    return count;
}

// A fresh augmentation in each of the teacher's epochs and each of the student's views, which are
// the baseline's too, and none of the teacher's.
static void views_are_fresh(void **state)
{
    (void)state;
    enum { BY_CHANCE = 12 };
    const struct seen *t = alone.teacher, *b = alone.baseline, *s = alone.student;
    assert_in_range(alike(t->digest[0], t->digest[1]), 0, BY_CHANCE);
    assert_in_range(alike(s->digest[0], s->digest[1]), 0, BY_CHANCE);
    for (int v = 0; v < VIEWS; v++) {
        assert_in_range(alike(s->digest[v], t->digest[v]), 0, BY_CHANCE);
        assert_int_equal(alike(s->digest[v], b->digest[v]), SAMPLES);
    }
}

// The logits that come with a picture are those of its pixels.
static void the_student_sees_what_its_teacher_saw(void **state)
{
    (void)state;
    char path[PATH_CAPACITY];
    struct logit_store store;
    static uint16_t logits[SAMPLES][CLASSES];
    static uint64_t digests[SAMPLES];
    const struct seen *s = together.student;
    int own = 0;
    assert_int_equal(path_join(path, together.folder, "logits.h5"), RETORT_OK);
    assert_int_equal(logit_store_open(&store, path, false), RETORT_OK);
    assert_int_equal(store.identity.views, VIEWS);
    for (int v = 0; v < VIEWS; v++) {
        assert_int_equal(logit_store_read(&store, v, 0, SAMPLES, logits[0], digests), RETORT_OK);
        for (int i = 0; i < SAMPLES; i++) {
            assert_int_equal(s->asked[v][i], s->loaded[v][i]);
            if (s->loaded[v][i] == 0)
                continue;
            own++;
            assert_true(s->digest[v][i] == digests[i]);
            assert_memory_equal(s->teacher[v][i], logits[i], sizeof logits[i]);
        }
    }
    logit_store_close(&store);
    assert_true(own > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_end),
        cmocka_unit_test(ranks_change_no_pixel),
        cmocka_unit_test(views_are_fresh),
        cmocka_unit_test(the_student_sees_what_its_teacher_saw),
    };
    return pair_run_tests(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
