// The recipe: defaults, round trip, --set, comparison, auto.

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

#include "base/arith/augment.h"
#include "base/error.h"
#include "base/processor.h"
#include "base/recipe.h"
#include "tests/base/capture.h"
#include "tests/base/recipes.h"

static void test_empty_file_is_the_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "# nothing\n", "---\n", "teacher:\nrun:\n", "{}"};
    struct recipe defaults, r;
    recipe_defaults(&defaults);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(load_text(&r, texts[i]), 0);
        assert_memory_equal(&r, &defaults, sizeof r);
    }
}

static void test_defaults_are_the_documented_ones(void **state)
{
    (void)state;
    struct recipe r;
    recipe_defaults(&r);
    assert_string_equal(r.data.path, "tiny-imagenet.h5");
    assert_int_equal(r.data.augment, AUGMENT_CROP_FLIP);
    assert_int_equal(r.data.shuffle, SHUFFLE_GLOBAL);
    assert_string_equal(r.teacher.arch, "conv12");
    assert_string_equal(r.student.arch, "conv4");
    const struct network_recipe *halves[] = {&r.teacher, &r.student};
    for (int h = 0; h < 2; h++) {
        const struct network_recipe *n = halves[h];
        assert_string_equal(n->from, "");
        assert_int_equal(n->norm, NORM_BATCH);
        assert_int_equal(n->activation, ACTIVATION_RELU);
        assert_int_equal(n->init, INIT_XAVIER_NORMAL);
        assert_int_equal(n->epochs, 8);
        assert_int_equal(n->batch, 50);
        assert_true(n->label_smoothing == 0);
        assert_int_equal(n->optimizer.kind, OPTIMIZER_SGD);
        assert_true(n->optimizer.lr == 0.05 && n->optimizer.momentum == 0.9);
        assert_true(n->optimizer.weight_decay == 5e-4 && n->optimizer.nesterov);
        assert_true(n->optimizer.beta1 == 0.9 && n->optimizer.beta2 == 0.999);
        assert_true(n->optimizer.epsilon == 1e-8 && !n->optimizer.shard);
        assert_int_equal(n->schedule.kind, SCHEDULE_COSINE);
        assert_true(n->schedule.warmup_epochs == 1 && n->schedule.final_lr == 0);
        assert_true(n->ema.enabled && n->ema.decay == 0.999);
    }
    assert_int_equal(r.teacher.distill.kind, DISTILL_NONE);
    assert_int_equal(r.student.distill.kind, DISTILL_KD);
    assert_int_equal(r.student.distill.reduction, REDUCTION_BATCH);
    assert_true(r.student.distill.temperature == 3 && r.student.distill.alpha == 0.3);
    assert_int_equal(r.logits.views, 0);
    assert_int_equal(r.logits.weights, WEIGHTS_RAW);
    static const bool stages[STAGE_COUNT] = {true, true, false, true};
    assert_memory_equal(r.run.stages, stages, sizeof stages);
    assert_int_equal(r.run.seed, 1);
    assert_int_equal(r.run.precision, PRECISION_AUTO);
    assert_true(r.run.deterministic);
    assert_int_equal(r.run.microbatches, 0);
    assert_int_equal(r.run.threads, 0);
    assert_int_equal(r.run.keep_checkpoints, 3);
    assert_true(r.run.checkpoint_every_s == 300 && r.run.log_every_s == 10);
    assert_true(r.run.watchdog_s == 600);
}

static void test_values_reach_their_places(void **state)
{
    (void)state;
    struct recipe r;
    assert_int_equal(
        load_text(&r,
                  "data: {path: 'a \"b\" \\ c.h5', augment: none, shuffle: shard}\n"
                  "teacher:\n"
                  "  arch: conv12/4\n"
                  "  from: t.h5\n"
                  "  epochs: 3\n"
                  "  optimizer: {kind: adamw, lr: 1e-3, nesterov: false, beta1: .5}\n"
                  "  schedule: {kind: step, warmup_epochs: 0.5, step_epochs: 2, step_factor: 0.5}\n"
                  "student:\n"
                  "  norm: none\n"
                  "  batch: 64\n"
                  "  label_smoothing: 0.1\n"
                  "  ema: {enabled: false, decay: 0}\n"
                  "  distill: {kind: none, temperature: 2.5, alpha: 1, reduction: elementwise}\n"
                  "logits: {views: 4, dtype: f16, weights: ema}\n"
                  "run: {stages: [baseline, teacher], seed: 9223372036854775807, precision: f64,\n"
                  "      deterministic: false, microbatches: 4, threads: 2, watchdog_s: 0.5}\n"),
        0);
    assert_string_equal(r.data.path, "a \"b\" \\ c.h5");
    assert_int_equal(r.data.augment, AUGMENT_NONE);
    assert_int_equal(r.data.shuffle, SHUFFLE_SHARD);
    assert_string_equal(r.teacher.arch, "conv12/4");
    assert_string_equal(r.teacher.from, "t.h5");
    assert_int_equal(r.teacher.epochs, 3);
    assert_int_equal(r.student.epochs, 8);
    assert_int_equal(r.teacher.optimizer.kind, OPTIMIZER_ADAMW);
    assert_true(r.teacher.optimizer.lr == 1e-3 && r.teacher.optimizer.beta1 == 0.5);
    assert_false(r.teacher.optimizer.nesterov);
    assert_int_equal(r.teacher.schedule.kind, SCHEDULE_STEP);
    assert_true(r.teacher.schedule.warmup_epochs == 0.5 && r.teacher.schedule.step_epochs == 2);
    assert_int_equal(r.student.norm, NORM_NONE);
    assert_int_equal(r.student.batch, 64);
    assert_true(r.student.label_smoothing == 0.1 && r.student.ema.decay == 0);
    assert_false(r.student.ema.enabled);
    assert_int_equal(r.student.distill.kind, DISTILL_NONE);
    assert_int_equal(r.student.distill.reduction, REDUCTION_ELEMENTWISE);
    assert_true(r.student.distill.alpha == 1 && r.student.distill.temperature == 2.5);
    assert_int_equal(r.logits.views, 4);
    assert_int_equal(r.logits.weights, WEIGHTS_EMA);
    static const bool stages[STAGE_COUNT] = {true, false, true, false};
    assert_memory_equal(r.run.stages, stages, sizeof stages);
    assert_true(r.run.seed == INT64_MAX);
    assert_int_equal(r.run.precision, PRECISION_F64);
    assert_int_equal(r.run.microbatches, 4);
    assert_int_equal(r.run.threads, 2);
    assert_true(r.run.watchdog_s == 0.5);
}

static void test_printed_recipe_reads_back(void **state)
{
    (void)state;
    struct recipe r, back;
    recipe_defaults(&r);
    assert_int_equal(recipe_set(&r, "data.path=/a b/\"c\" \\ d: é #.h5"), 0);
    assert_int_equal(recipe_set(&r, "teacher.from="), 0);
    assert_int_equal(recipe_set(&r, "student.optimizer.lr=0.1234567890123456789"), 0);
    assert_int_equal(recipe_set(&r, "teacher.optimizer.lr=4.9406564584124654e-324"), 0);
    assert_int_equal(recipe_set(&r, "run.watchdog_s=1.7976931348623157e308"), 0);
    assert_int_equal(recipe_set(&r, "student.schedule.step_epochs=12.5"), 0);
    assert_int_equal(recipe_set(&r, "run.seed=9223372036854775807"), 0);
    char *text, *again;
    assert_int_equal(recipe_to_text(&r, &text), 0);
    assert_int_equal(load_text(&back, text), 0);
    assert_int_equal(recipe_to_text(&back, &again), 0);
    assert_string_equal(again, text);
    assert_string_equal(back.data.path, r.data.path);
    assert_true(back.student.optimizer.lr == 0.1234567890123456789);
    assert_true(back.teacher.optimizer.lr == 4.9406564584124654e-324);
    assert_true(back.run.watchdog_s == 1.7976931348623157e308);
    assert_non_null(strstr(text, "    step_epochs: 12.5\n"));
    assert_non_null(strstr(text, "  path: \"/a b/\\\"c\\\" \\\\ d: é #.h5\"\n"));
    free(text);
    free(again);
}

static void test_print_is_nested_and_in_order(void **state)
{
    (void)state;
    struct recipe r;
    char *text;
    recipe_defaults(&r);
    assert_int_equal(recipe_to_text(&r, &text), 0);
    static const char head[] =
        "data:\n"
        "  path: \"tiny-imagenet.h5\"\n"
        "  augment: crop_flip\n"
        "  shuffle: global\n"
        "teacher:\n"
        "  arch: conv12\n"
        "  from: \"\"\n"
        "  norm: batch\n";
    assert_memory_equal(text, head, sizeof head - 1);
    assert_non_null(strstr(text,
                           "  optimizer:\n"
                           "    kind: sgd\n"
                           "    lr: 0.05\n"
                           "    momentum: 0.9\n"
                           "    nesterov: true\n"
                           "    weight_decay: 0.0005\n"));
    assert_non_null(strstr(text,
                           "logits:\n"
                           "  path: \"\"\n"
                           "  views: auto\n"
                           "  dtype: f16\n"
                           "  weights: raw\n"
                           "student:\n"));
    assert_non_null(strstr(text,
                           "run:\n"
                           "  stages: [teacher, logits, student]\n"
                           "  seed: 1\n"
                           "  precision: auto\n"));
    free(text);
}

static void test_set(void **state)
{
    (void)state;
    static const struct {
        const char *assignment, *text;
    } bad[] = {
        {"run.seed", "--set: run.seed has no \"=\"; write key=value, as in run.seed=2\n"},
        {"run.sed=2", "--set: unknown key run.sed; did you mean run.seed?\n"},
        {"=2", "--set: unknown key ; \"retort run --print-recipe\" shows every key\n"},
        {"run=2", "--set: run is a section; name a key below it, such as run.stages\n"},
        {"run.seed=-1", "--set: run.seed: -1 is out of range; a whole number of 0 or more\n"},
        {"run.seed=", "--set: run.seed: has no value; a whole number of 0 or more\n"},
        {"teacher.distill.kind=kd",
         "--set: unknown key teacher.distill.kind; did you mean student.distill.kind?\n"},
        {"run.stages=[teacher",
         "--set: run.stages: [teacher is not a list of teacher, logits, baseline, student\n"},
    };
    struct recipe r, before;
    recipe_defaults(&r);
    before = r;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        capture_begin(STDERR_FILENO);
        int rc = recipe_set(&r, bad[i].assignment);
        assert_string_equal(message_of(capture_end()), bad[i].text);
        assert_int_equal(rc, RETORT_USAGE);
        assert_memory_equal(&r, &before, sizeof r);
    }
    assert_int_equal(recipe_set(&r, "student.distill.temperature=4"), 0);
    assert_true(r.student.distill.temperature == 4);
    assert_int_equal(recipe_set(&r, "data.path=a=b.h5"), 0);
    assert_string_equal(r.data.path, "a=b.h5");
    static const bool stages[STAGE_COUNT] = {false, true, false, true};
    static const char *const lists[] = {"run.stages=logits,student",
                                        "run.stages=[student, logits]"};
    for (int i = 0; i < 2; i++) {
        recipe_defaults(&r);
        assert_int_equal(recipe_set(&r, lists[i]), 0);
        assert_memory_equal(r.run.stages, stages, sizeof stages);
    }
}

static void test_difference(void **state)
{
    (void)state;
    struct recipe folder, asked;
    char out[1024];
    recipe_defaults(&folder);
    assert_int_equal(recipe_resolve(&folder, 2, 3), 0);
    recipe_defaults(&asked);
    // What is auto, or a matter of speed, or of what is done next, is no difference.
    static const char *const free_to_change[] = {"run.ranks=7",
                                                 "run.threads=9",
                                                 "run.log_every_s=1",
                                                 "run.stages=baseline",
                                                 "run.keep_checkpoints=9",
                                                 "data.path=elsewhere.h5",
                                                 "teacher.optimizer.shard=true"};
    for (size_t i = 0; i < sizeof free_to_change / sizeof free_to_change[0]; i++)
        assert_int_equal(recipe_set(&asked, free_to_change[i]), 0);
    assert_int_equal(recipe_difference(&folder, &asked, out, sizeof out), 0);
    assert_string_equal(out, "");
    static const char *const refused[] = {"run.seed=2", "run.microbatches=4", "teacher.from=t.h5",
                                          "student.optimizer.lr=0.1"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_int_equal(recipe_set(&asked, refused[i]), 0);
    char cwd[PATH_CAPACITY], expected[PATH_CAPACITY + 512];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(expected, sizeof expected,
             "teacher.from: nothing in the folder, %s/t.h5 asked for\n"
             "student.optimizer.lr: 0.05 in the folder, 0.1 asked for\n"
             "run.seed: 1 in the folder, 2 asked for\n"
             "run.microbatches: 2 in the folder, 4 asked for\n",
             cwd);
    assert_int_equal(recipe_difference(&folder, &asked, out, sizeof out), 4);
    assert_string_equal(out, expected);
    // A short buffer is cut, not overrun; the number stays.
    memset(out, 'x', sizeof out);
    assert_int_equal(recipe_difference(&folder, &asked, out, 30), 4);
    assert_int_equal(strlen(out), 29);
    assert_int_equal(out[30], 'x');
    // A relative path that means the same file is the same.
    snprintf(folder.teacher.from, sizeof folder.teacher.from, "%.4000s/t.h5", cwd);
    assert_int_equal(recipe_difference(&folder, &asked, out, sizeof out), 3);
}

static void test_resolve_fills_auto_in(void **state)
{
    (void)state;
    struct recipe r, again;
    char cwd[PATH_CAPACITY], expected[PATH_CAPACITY + 64];
    recipe_defaults(&r);
    assert_int_equal(recipe_resolve(&r, 4, 3), 0);
    assert_int_equal(r.run.microbatches, 4);
    assert_int_equal(r.run.threads, 3);
    assert_int_equal(r.run.ranks, 4);
    assert_int_equal(r.run.precision, PRECISION_F32);
    assert_int_equal(r.logits.views, 8);
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(expected, sizeof expected, "%s/tiny-imagenet.h5", cwd);
    assert_string_equal(r.data.path, expected);
    assert_string_equal(r.logits.path, "");
    // What was settled stays, on another number of ranks and in another folder.
    again = r;
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(recipe_resolve(&again, 2, 1), 0);
    assert_memory_equal(&again, &r, sizeof r);

    recipe_defaults(&r);
    assert_int_equal(recipe_set(&r, "student.epochs=40"), 0);
    assert_int_equal(recipe_set(&r, "run.microbatches=8"), 0);
    assert_int_equal(recipe_set(&r, "run.precision=f64"), 0);
    assert_int_equal(recipe_resolve(&r, 2, 1), 0);
    assert_int_equal(r.logits.views, 16);
    assert_int_equal(r.run.microbatches, 8);
    assert_int_equal(r.run.precision, PRECISION_F64);
}

static void test_precision_is_the_devices(void **state)
{
    (void)state;
    static const struct {
        const char *device;
        int64_t asked, settled;
    } CASES[] = {
        {"cpu", PRECISION_AUTO, PRECISION_F32},      {"cpu", PRECISION_F32, PRECISION_F32},
        {"cpu", PRECISION_F64, PRECISION_F64},       {"reference", PRECISION_AUTO, PRECISION_F64},
        {"reference", PRECISION_F32, PRECISION_F32}, {"cuda", PRECISION_AUTO, PRECISION_BF16},
        {"softgpu", PRECISION_AUTO, PRECISION_BF16}, {"cuda", PRECISION_F32, PRECISION_F32},
        {"cuda", PRECISION_BF16, PRECISION_BF16},    {"auto", PRECISION_AUTO, PRECISION_AUTO},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        assert_int_equal(precision_on(CASES[i].device, CASES[i].asked), CASES[i].settled);
    // tests/launcher/recipe.sh has what the kernel says of the processor.
    assert_int_equal(precision_on("cpu", PRECISION_BF16),
                     processor_gains_by_bf16() ? PRECISION_BF16 : PRECISION_F32);
}

static void test_describe_names_every_key(void **state)
{
    (void)state;
    capture_begin(STDOUT_FILENO);
    recipe_describe(stdout);
    const char *text = capture_end();
    int keys = 0;
    for (const char *at = text; (at = strstr(at, "default: ")); at++)
        keys++;
    assert_int_equal(keys, 71);
    assert_non_null(strstr(text,
                           "  student.distill.alpha            weight of the teacher's part\n"
                           "                                   a number from 0 to 1; "
                           "default: 0.3\n"));
    assert_null(strstr(text, "teacher.distill"));
}

// The recipes that are shipped say what their heads promise.
static void test_shipped_recipes(void **state)
{
    (void)state;
    struct recipe quick, report, written, defaults;
    char text[1024];
    recipe_defaults(&defaults);
    assert_int_equal(recipe_load(&quick, RETORT_SOURCE_DIR "/recipes/quickstart.yaml"), 0);
    assert_int_equal(recipe_load(&report, RETORT_SOURCE_DIR "/recipes/report.yaml"), 0);
    assert_int_equal(recipe_load(&written, RETORT_SOURCE_DIR "/recipes/report-as-written.yaml"), 0);
    static const bool all[STAGE_COUNT] = {true, true, true, true};
    assert_memory_equal(quick.run.stages, all, sizeof all);
    assert_memory_equal(report.run.stages, all, sizeof all);
    assert_false(written.run.stages[STAGE_BASELINE]);
    // report.yaml is the defaults but for whose statistics BatchNorm takes, and the average.
    assert_int_equal(recipe_difference(&defaults, &report, text, sizeof text), 4);
    for (int i = 0; i < 2; i++) {
        struct network_recipe *n = i == 0 ? &report.teacher : &report.student;
        n->norm = defaults.teacher.norm;
        n->ema.decay = defaults.teacher.ema.decay;
    }
    assert_int_equal(recipe_difference(&defaults, &report, text, sizeof text), 0);
    assert_int_equal(written.student.distill.reduction, REDUCTION_ELEMENTWISE);
    assert_int_equal(written.teacher.norm, NORM_NONE);
    assert_int_equal(written.data.augment, AUGMENT_NONE);
    assert_int_equal(recipe_resolve(&quick, 2, 1), 0);
    assert_int_equal(recipe_resolve(&report, 2, 1), 0);
    assert_int_equal(recipe_resolve(&written, 2, 1), 0);
}

static void test_stages(void **state)
{
    (void)state;
    struct recipe r;
    recipe_defaults(&r);
    for (int s = 0; s < STAGE_COUNT; s++) {
        enum stage found = STAGE_COUNT;
        assert_int_equal(stage_parse(stage_name((enum stage)s), &found), 0);
        assert_int_equal(found, s);
    }
    assert_string_equal(stage_name(STAGE_BASELINE), "baseline");
    assert_ptr_equal(recipe_network(&r, STAGE_TEACHER), &r.teacher);
    assert_ptr_equal(recipe_network(&r, STAGE_BASELINE), &r.student);
    assert_ptr_equal(recipe_network(&r, STAGE_STUDENT), &r.student);
    assert_null(recipe_network(&r, STAGE_LOGITS));
    enum stage unused;
    capture_begin(STDERR_FILENO);
    assert_int_equal(stage_parse("tutor", &unused), RETORT_USAGE);
    assert_string_equal(message_of(capture_end()),
                        "unknown stage tutor; one of teacher, logits, baseline, student\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RECIPE_TEST(test_empty_file_is_the_defaults),
        RECIPE_TEST(test_defaults_are_the_documented_ones),
        RECIPE_TEST(test_values_reach_their_places),
        RECIPE_TEST(test_printed_recipe_reads_back),
        RECIPE_TEST(test_print_is_nested_and_in_order),
        RECIPE_TEST(test_set),
        RECIPE_TEST(test_difference),
        RECIPE_TEST(test_resolve_fills_auto_in),
        RECIPE_TEST(test_precision_is_the_devices),
        RECIPE_TEST(test_describe_names_every_key),
        RECIPE_TEST(test_shipped_recipes),
        RECIPE_TEST(test_stages),
    };
    return cmocka_run_group_tests_name("base/recipe", tests, NULL, NULL);
}
