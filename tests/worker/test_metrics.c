// metrics.jsonl across a resume, and summary.json.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "worker/metrics.h"

struct scratch {
    char folder[64], lines[128], summary[128];
    struct metrics *metrics;
};

static int set_up(void **state)
{
    static struct scratch s;
    *state = &s;
    (void)strcpy(s.folder, "/tmp/retort-metrics.XXXXXX");
    if (!mkdtemp(s.folder))
        return -1;
    (void)snprintf(s.lines, sizeof s.lines, "%s/metrics.jsonl", s.folder);
    (void)snprintf(s.summary, sizeof s.summary, "%s/summary.json", s.folder);
    return metrics_create(&s.metrics, s.folder, true);
}

static int tear_down(void **state)
{
    struct scratch *s = *state;
    metrics_destroy(&s->metrics);
    (void)unlink(s->lines);
    (void)unlink(s->summary);
    return rmdir(s->folder); // fails when something else was left
}

static void put(struct scratch *s, const char *event, const char *stage, int64_t step)
{
    json_t *line =
        json_pack("{s:s,s:s,s:I}", "event", event, "stage", stage, "step", (json_int_t)step);
    assert_int_equal(metrics_line(s->metrics, line), RETORT_OK);
}

static void assert_lines(const struct scratch *s, const char *expected)
{
    char *text = NULL;
    size_t bytes;
    assert_int_equal(file_read(s->lines, 1 << 20, &text, &bytes), RETORT_OK);
    assert_string_equal(text, expected);
    free(text);
}

#define LINE(event, stage, step)                                                                   \
    "{\"event\":\"" event "\",\"stage\":\"" stage "\",\"step\":" #step "}\n"

static void put_a_run(struct scratch *s)
{
    put(s, "train", "teacher", 3);
    put(s, "epoch", "teacher", 4);
    put(s, "train", "student", 3);
    put(s, "train", "student", 4);
    put(s, "epoch", "student", 4);
    put(s, "train", "student", 5);
}

static void later_steps_of_the_stage_are_forgotten(void **state)
{
    struct scratch *s = *state;
    put_a_run(s);
    assert_int_equal(metrics_forget(s->metrics, "student", 4, true), RETORT_OK);
    assert_lines(s,
                 LINE("train", "teacher", 3) LINE("epoch", "teacher", 4) LINE("train", "student", 3)
                     LINE("train", "student", 4) LINE("epoch", "student", 4));
}

// The checkpoint was made after the epoch's last step, and the run killed after the epoch's line.
static void an_epoch_that_ends_again_is_forgotten(void **state)
{
    struct scratch *s = *state;
    put_a_run(s);
    assert_int_equal(metrics_forget(s->metrics, "student", 4, false), RETORT_OK);
    assert_lines(s, LINE("train", "teacher", 3) LINE("epoch", "teacher", 4)
                        LINE("train", "student", 3) LINE("train", "student", 4));
}

static void a_stage_without_checkpoint_starts_anew_and_others_stay(void **state)
{
    struct scratch *s = *state;
    put_a_run(s);
    assert_int_equal(metrics_forget(s->metrics, "teacher", -1, true), RETORT_OK);
    put(s, "train", "teacher", 1);
    assert_lines(s,
                 LINE("train", "student", 3) LINE("train", "student", 4) LINE("epoch", "student", 4)
                     LINE("train", "student", 5) LINE("train", "teacher", 1));
}

static void halves_of_lines_are_forgotten(void **state)
{
    struct scratch *s = *state;
    put(s, "train", "teacher", 3);
    FILE *file = fopen(s->lines, "a");
    assert_non_null(file);
    assert_true(fputs("{\"event\":\"tra\n{\"event\":\"train\",\"sta", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(metrics_forget(s->metrics, "teacher", 9, true), RETORT_OK);
    put(s, "train", "teacher", 10);
    assert_lines(s, LINE("train", "teacher", 3) LINE("train", "teacher", 10));
}

static void a_rank_that_is_not_first_writes_nothing(void **state)
{
    struct scratch *s = *state;
    struct metrics *other;
    put(s, "train", "teacher", 3);
    assert_int_equal(metrics_create(&other, s->folder, false), RETORT_OK);
    assert_int_equal(metrics_line(other, json_object()), RETORT_OK);
    assert_int_equal(metrics_forget(other, "teacher", -1, true), RETORT_OK);
    assert_int_equal(metrics_flush(other), RETORT_OK);
    summary_set(other, "ranks", json_integer(2));
    assert_int_equal(summary_write(other), RETORT_OK);
    metrics_destroy(&other);
    assert_lines(s, LINE("train", "teacher", 3));
    assert_false(file_exists(s->summary));
}

// A stage's file begins with its first line; a start after it makes another. (event_files.py, run
// by resume.sh, reads them.)
static void curves_have_a_file_a_start(void **state)
{
    struct scratch *s = *state;
    static const char *const expected[] = {"teacher/events.out.tfevents.000001",
                                           "teacher/events.out.tfevents.000002",
                                           "student/events.out.tfevents.000001"};
    char path[256];
    for (int start = 0; start < 2; start++) {
        assert_int_equal(metrics_forget(s->metrics, "teacher", 2 * start - 1, true), RETORT_OK);
        put(s, "restart", "teacher", 2 * start); // has no number for a curve
        (void)snprintf(path, sizeof path, "%s/tensorboard/%s", s->folder, expected[start]);
        assert_false(file_exists(path));
        json_t *line = json_pack("{s:s,s:s,s:i,s:f}", "event", "train", "stage", "teacher", "step",
                                 2 * start + 1, "loss", 0.5);
        assert_int_equal(metrics_line(s->metrics, line), RETORT_OK);
        assert_true(file_size(path) > 0);
    }
    assert_int_equal(metrics_forget(s->metrics, "student", -1, true), RETORT_OK);
    assert_int_equal(
        metrics_line(s->metrics, json_pack("{s:s,s:s,s:i,s:f}", "event", "epoch", "stage",
                                           "student", "step", 4, "top1", 0.0)),
        RETORT_OK);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/tensorboard/%s", s->folder, expected[i]);
        assert_int_equal(unlink(path), 0);
        *strrchr(path, '/') = '\0';
        (void)rmdir(path); // when it was the last
    }
    (void)snprintf(path, sizeof path, "%s/tensorboard", s->folder);
    assert_int_equal(rmdir(path), 0);
}

static void the_summary_outlives_a_restart(void **state)
{
    struct scratch *s = *state;
    summary_set(s->metrics, "ranks", json_integer(2));
    assert_false(file_exists(s->summary)); // several members, one write
    assert_int_equal(summary_write(s->metrics), RETORT_OK);
    metrics_destroy(&s->metrics);
    assert_int_equal(metrics_create(&s->metrics, s->folder, true), RETORT_OK);
    summary_set(s->metrics, "top1", json_real(0.25));
    assert_int_equal(summary_write(s->metrics), RETORT_OK);
    json_t *summary = json_load_file(s->summary, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(summary, "ranks")), 2);
    assert_true(json_real_value(json_object_get(summary, "top1")) == 0.25);
    json_decref(summary);
}

// What an earlier start took counts, and only up to what it kept.
static void the_clock_goes_on_after_a_restart(void **state)
{
    struct scratch *s = *state;
    summary_set(s->metrics, "seconds", json_real(100.0));
    assert_int_equal(summary_write(s->metrics), RETORT_OK);
    metrics_destroy(&s->metrics);
    assert_int_equal(metrics_create(&s->metrics, s->folder, true), RETORT_OK);
    assert_true(json_number_value(summary_get(s->metrics, "seconds")) == 100.0);
    (void)usleep(2000);
    assert_int_equal(summary_clock(s->metrics), RETORT_OK);
    double first = json_number_value(summary_get(s->metrics, "seconds"));
    assert_int_equal(summary_clock(s->metrics), RETORT_OK);
    double second = json_number_value(summary_get(s->metrics, "seconds"));
    assert_true(first >= 100.002 && first <= second && second < 160.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(later_steps_of_the_stage_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_epoch_that_ends_again_is_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stage_without_checkpoint_starts_anew_and_others_stay,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(halves_of_lines_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rank_that_is_not_first_writes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(curves_have_a_file_a_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_summary_outlives_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_clock_goes_on_after_a_restart, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
