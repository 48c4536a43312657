// What a recipe is refused for: each text with its line.

// cmocka needs these before it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/base/capture.h"
#include "tests/base/recipes.h"

struct refusal {
    const char *yaml, *text;
};

static const struct refusal refusals[] = {
    {"data: {}\n\nteacher:\n  epochs: 2\n\n\n  optimiser: {lr: 1}\n",
     "r.yaml:7: unknown key teacher.optimiser; did you mean teacher.optimizer?\n"},
    {"teacher: {lr: 1}", "r.yaml:1: unknown key teacher.lr; did you mean teacher.optimizer.lr?\n"},
    {"teacher:\n  distill: {kind: kd}",
     "r.yaml:2: unknown key teacher.distill; \"retort run --print-recipe\" shows every key\n"},
    {"student.batch: 2", "r.yaml:1: unknown key student.batch; did you mean student.batch?\n"},
    {"run:\n  sede: 2", "r.yaml:2: unknown key run.sede; did you mean run.seed?\n"},
    {"something: 1",
     "r.yaml:1: unknown key something; \"retort run --print-recipe\" shows every key\n"},
    {"run:\n  seed: 1\n  seed: 1\n",
     "r.yaml:3: run.seed stands there twice; keep one of the two\n"},
    {"run: {}\nrun: {}\n", "r.yaml:2: run stands there twice; keep one of the two\n"},
    {"# one\n# two\nteacher:\n  batch: -5\n",
     "r.yaml:4: teacher.batch: -5 is out of range; a whole number of 1 or more\n"},
    {"teacher: {batch: 0}",
     "r.yaml:1: teacher.batch: 0 is out of range; a whole number of 1 or more\n"},
    {"teacher: {batch: 1000000001}",
     "r.yaml:1: teacher.batch: 1000000001 is out of range; a whole number from 1 to 1000000000\n"},
    {"teacher: {batch: 99999999999999999999}",
     "r.yaml:1: teacher.batch: 99999999999999999999 is out of range; a whole number from 1 to "
     "1000000000\n"},
    {"run: {seed: 9223372036854775808}",
     "r.yaml:1: run.seed: 9223372036854775808 is out of range; a whole number of 0 or more\n"},
    {"teacher: {batch: many}",
     "r.yaml:1: teacher.batch: many is not a whole number of 1 or more\n"},
    {"teacher: {batch: 1.5}", "r.yaml:1: teacher.batch: 1.5 is not a whole number of 1 or more\n"},
    {"teacher: {batch: 0x10}",
     "r.yaml:1: teacher.batch: 0x10 is not a whole number of 1 or more\n"},
    {"teacher: {batch: 5 }\nstudent: {batch: 5 6}",
     "r.yaml:2: student.batch: 5 6 is not a whole number of 1 or more\n"},
    {"teacher: {batch: \"5\"}",
     "r.yaml:1: teacher.batch: \"5\" is not a whole number of 1 or more\n"},
    {"teacher: {batch: }", "r.yaml:1: teacher.batch: has no value; a whole number of 1 or more\n"},
    {"teacher: {batch: auto}",
     "r.yaml:1: teacher.batch: auto is not a whole number of 1 or more\n"},
    {"run: {microbatches: 0}",
     "r.yaml:1: run.microbatches: 0 is out of range; a whole number of 1 or more, or auto\n"},
    {"teacher: {optimizer: {lr: 0}}",
     "r.yaml:1: teacher.optimizer.lr: 0 is out of range; a number above 0\n"},
    {"teacher: {optimizer: {lr: nan}}",
     "r.yaml:1: teacher.optimizer.lr: nan is not a number above 0\n"},
    {"teacher: {optimizer: {lr: .inf}}",
     "r.yaml:1: teacher.optimizer.lr: .inf is not a number above 0\n"},
    {"teacher: {optimizer: {lr: 0x1p-3}}",
     "r.yaml:1: teacher.optimizer.lr: 0x1p-3 is not a number above 0\n"},
    {"teacher: {optimizer: {lr: 0.1f}}",
     "r.yaml:1: teacher.optimizer.lr: 0.1f is not a number above 0\n"},
    {"teacher: {optimizer: {lr: 1e}}",
     "r.yaml:1: teacher.optimizer.lr: 1e is not a number above 0\n"},
    {"teacher: {optimizer: {lr: 1e999}}",
     "r.yaml:1: teacher.optimizer.lr: 1e999 is out of range; a number above 0\n"},
    {"teacher: {optimizer: {momentum: 1}}",
     "r.yaml:1: teacher.optimizer.momentum: 1 is out of range; a number from 0 and below 1\n"},
    {"student: {distill: {alpha: 1.01}}",
     "r.yaml:1: student.distill.alpha: 1.01 is out of range; a number from 0 to 1\n"},
    {"student: {optimizer: {nesterov: yes}}",
     "r.yaml:1: student.optimizer.nesterov: yes is not true or false\n"},
    {"student: {optimizer: {kind: lion}}",
     "r.yaml:1: student.optimizer.kind: lion is not one of sgd, adamw\n"},
    {"student: {optimizer: {kind: sg}}",
     "r.yaml:1: student.optimizer.kind: sg is not one of sgd, adamw\n"},
    {"logits: {dtype: f32}", "r.yaml:1: logits.dtype: f32 is not f16\n"},
    {"teacher: {arch: \"conv 12\"}",
     "r.yaml:1: teacher.arch: conv 12 is not a name of "
     "letters, digits, '_', '-' and '/', shorter than 32\n"},
    {"data: {path: }",
     "r.yaml:1: data.path: has no value; a path in UTF-8, shorter than 4096 bytes\n"},
    {"data: {path: \"a\\0b\"}",
     "r.yaml:1: data.path: \"a b\" is not a path in UTF-8, shorter "
     "than 4096 bytes\n"},
    {"teacher: {batch: [5]}",
     "r.yaml:1: teacher.batch: a list stands there; it takes a whole "
     "number of 1 or more\n"},
    {"teacher: {batch: {a: 5}}",
     "r.yaml:1: teacher.batch: a section stands there; it takes a "
     "whole number of 1 or more\n"},
    {"teacher: conv12", "r.yaml:1: teacher: needs keys below it, such as teacher.arch\n"},
    {"teacher: {optimizer: [sgd]}",
     "r.yaml:1: teacher.optimizer: needs keys below it, such as teacher.optimizer.kind\n"},
    {"- teacher", "r.yaml:1: the recipe: needs keys, such as data, teacher, student and run\n"},
    {"run: {stages: teacher}",
     "r.yaml:1: run.stages: a single value stands there; it takes a list "
     "of teacher, logits, baseline, student\n"},
    {"run: {stages: []}",
     "r.yaml:1: run.stages: no stage is named; a list of teacher, logits, baseline, student\n"},
    {"run: {stages: [teacher, teacher]}", "r.yaml:1: run.stages: teacher stands there twice\n"},
    {"run: {stages: [tutor]}",
     "r.yaml:1: run.stages: tutor is not a stage; a list of teacher, logits, baseline, student\n"},
    {"run: {stages: [[teacher]]}",
     "r.yaml:1: run.stages: the list holds something that is no "
     "word\n"},
    {"{[a]: 1}", "r.yaml:1: a key must be a word\n"},
    {"run:\n  seed: &a 1\n",
     "r.yaml:2: anchors (&), aliases (*) and tags (!) are not for recipes; "
     "write the value, in quotes if it begins with one of these\n"},
    {"run:\n  seed: *a\n",
     "r.yaml:2: anchors (&), aliases (*) and tags (!) are not for recipes; "
     "write the value, in quotes if it begins with one of these\n"},
    {"run: {}\n---\nrun: {}\n", "r.yaml:2: a second document begins; a recipe is one\n"},
    {"run:\n  seed: [1\nteacher: {}\n", "r.yaml:3: not YAML: "},
    {"run:\n\tseed: 1\n", "r.yaml:2: not YAML: found character that cannot start any token\n"},
    {"run: \xff\n", "r.yaml: byte 5: not YAML: invalid leading UTF-8 octet\n"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct recipe r;
        capture_begin(STDERR_FILENO);
        int rc = load_text(&r, refusals[i].yaml);
        const char *text = message_of(capture_end()), *expected = refusals[i].text;
        if (expected[strlen(expected) - 1] == '\n')
            assert_string_equal(text, expected);
        else // the rest is libyaml's wording
            assert_memory_equal(text, expected, strlen(expected));
        assert_int_equal(rc, RETORT_USAGE);
    }
}

static void test_missing_and_huge_files(void **state)
{
    (void)state;
    struct recipe r;
    capture_begin(STDERR_FILENO);
    assert_int_equal(recipe_load(&r, "none.yaml"), RETORT_INPUT);
    assert_string_equal(message_of(capture_end()),
                        "cannot open none.yaml: No such file or directory\n");
    char *spaces = malloc((1 << 20) + 1);
    assert_non_null(spaces);
    memset(spaces, ' ', (1 << 20) + 1);
    assert_int_equal(file_write_whole("big.yaml", spaces, (1 << 20) + 1), 0);
    free(spaces);
    capture_begin(STDERR_FILENO);
    assert_int_equal(recipe_load(&r, "big.yaml"), RETORT_INPUT);
    assert_string_equal(message_of(capture_end()),
                        "big.yaml is larger than the 1048576 bytes allowed for it\n");
}

// Cut anywhere, a recipe is read or refused by one line: nothing is overrun.
static void test_every_prefix_is_read_or_refused(void **state)
{
    (void)state;
    struct recipe r;
    char *text;
    recipe_defaults(&r);
    assert_int_equal(recipe_to_text(&r, &text), 0);
    int refused = 0;
    for (size_t length = strlen(text) - 1; length > 7; length -= 7) {
        text[length] = '\0';
        capture_begin(STDERR_FILENO);
        int rc = load_text(&r, text);
        const char *printed = capture_end();
        assert_true(rc == 0 || rc == RETORT_USAGE);
        assert_int_equal(printed[0] != '\0', rc != 0);
        refused += rc != 0;
    }
    assert_true(refused > 50);
    free(text);
}

static void test_resolve_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *set[3], *text;
        int ranks;
    } cases[] = {
        {{"teacher.schedule.warmup_epochs=9"},
         "teacher.schedule.warmup_epochs: 9 is more than the 8 of teacher.epochs; shorten the "
         "warm-up or train for longer\n",
         1},
        {{"run.microbatches=2"},
         "4 ranks but run.microbatches is 2: a rank computes whole micro-batches; start with "
         "--ranks 2 or fewer, or begin a new run with run.microbatches=4\n",
         4},
        {{"student.batch=3"},
         "4 ranks but student.batch is 3: more ranks than samples in a batch; start with --ranks 3 "
         "or fewer\n",
         4},
        {{"run.stages=logits,student"},
         "run.stages: logits needs a teacher; add the stage teacher, or name a checkpoint in "
         "teacher.from\n",
         1},
        {{"run.stages=student"},
         "run.stages: student needs the teacher's logits; add the stage logits, or name a file in "
         "logits.path, or set student.distill.kind=none\n",
         1},
    };
    struct recipe r;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        recipe_defaults(&r);
        for (int k = 0; k < 3 && cases[i].set[k]; k++)
            assert_int_equal(recipe_set(&r, cases[i].set[k]), 0);
        capture_begin(STDERR_FILENO);
        int rc = recipe_resolve(&r, cases[i].ranks, 1);
        assert_string_equal(message_of(capture_end()), cases[i].text);
        assert_int_equal(rc, RETORT_USAGE);
    }
    // More micro-batches than samples leaves some empty, and is allowed; so is a student alone.
    static const char *const fine[][2] = {
        {"run.microbatches=64", "student.batch=2"},
        {"run.stages=student", "student.distill.kind=none"},
        {"run.stages=student", "logits.path=l.h5"},
        {"run.stages=logits", "teacher.from=t.h5"},
        {"run.stages=baseline", "teacher.schedule.warmup_epochs=9"}};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        recipe_defaults(&r);
        assert_int_equal(recipe_set(&r, fine[i][0]), 0);
        assert_int_equal(recipe_set(&r, fine[i][1]), 0);
        assert_int_equal(recipe_resolve(&r, 2, 1), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RECIPE_TEST(test_refusals),
        RECIPE_TEST(test_missing_and_huge_files),
        RECIPE_TEST(test_every_prefix_is_read_or_refused),
        RECIPE_TEST(test_resolve_refuses),
    };
    return cmocka_run_group_tests_name("base/recipe_refusals", tests, NULL, NULL);
}
