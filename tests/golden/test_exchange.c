// Weights to and from PyTorch, against files that PyTorch made: what is imported has the logits
// that PyTorch computed, what is exported is the state_dict that PyTorch wrote, and what does not
// fit is refused by its name.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/safetensors.h"
#include "tests/data/scratch.h"
#include "tests/golden/golden_file.h"
#include "tests/models/support.h"
#include "worker/export.h"
#include "worker/import.h"
#include "worker/network_file.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { BATCH = 8, SAMPLES = 24, TENSORS = 128 }; // the first two as in make.py
static const int64_t COUNTED = 1234567890123;    // the same

static const struct {
    const char *arch, *norm;
} NETWORKS[] = {{"conv4", "batch"}, {"conv4", "none"}, {"conv12", "batch"}, {"conv12", "none"}};
enum { NETWORK_COUNT = sizeof(NETWORKS) / sizeof(NETWORKS[0]) };

// What the golden file tells of pictures and classes, as options. Everything is static: one at a
// time.
static struct import_request request_of(const struct scratch *s, hid_t file, const char *arch,
                                        const char *norm)
{
    static char in[512], full[32], size[32], mean[128], deviation[128];
    const char *classes = scratch_path(s, "classes.txt");
    double m[3], d[3];
    hsize_t dims[4];
    hid_t set = H5Dopen2(file, "/pixels", H5P_DEFAULT), space = H5Dget_space(set);
    assert_int_equal(H5Sget_simple_extent_dims(space, dims, NULL), 4);
    H5Sclose(space);
    H5Dclose(set);
    golden_text(file, "arch", full, sizeof(full));
    golden_read(file, "/mean", H5T_NATIVE_DOUBLE, m, 3);
    golden_read(file, "/deviation", H5T_NATIVE_DOUBLE, d, 3);
    snprintf(in, sizeof(in), GOLDEN_FOLDER "/%s-%s.safetensors", arch, norm);
    snprintf(size, sizeof(size), "%dx%d", (int)dims[2], (int)dims[1]);
    snprintf(mean, sizeof(mean), "%.17g,%.17g,%.17g", m[0], m[1], m[2]);
    snprintf(deviation, sizeof(deviation), "%.17g,%.17g,%.17g", d[0], d[1], d[2]);
    FILE *names = fopen(classes, "w");
    assert_non_null(names);
    for (int i = 0; i < (int)golden_number(file, "/", "classes"); i++)
        fprintf(names, "name %d, of \xc3\xa9\n", i);
    fclose(names);
    return (struct import_request){.in = in,
                                   .out = scratch_path(s, "in.h5"),
                                   .arch = full,
                                   .norm = norm,
                                   .activation = "",
                                   .data = "",
                                   .size = size,
                                   .mean = mean,
                                   .deviation = deviation,
                                   .classes = classes};
}

// ---- import

static void check_values(const struct network_file *f, hid_t file, const char *norm)
{
    char path[64];
    snprintf(path, sizeof(path), "/%s/start/initial", norm);
    float *initial = malloc(f->graph->total * sizeof(*initial));
    assert_non_null(initial);
    golden_read(file, path, H5T_NATIVE_FLOAT, initial, f->graph->total);
    assert_int_equal(f->checkpoint.real, REAL_F32);
    assert_memory_equal(f->checkpoint.weights, initial, f->graph->total * sizeof(*initial));
    json_int_t step = json_integer_value(json_object_get(f->checkpoint.state, "step"));
    assert_int_equal(step, strcmp(norm, "batch") == 0 ? COUNTED : 0);
    free(initial);
}

// The logits of the first pictures by what `retort eval` and `predict` compute with.
static void check_logits(const struct network_file *f, hid_t file, const char *norm,
                         const char *device, double limit)
{
    const struct engine_options options = {.device = device,
                                           .threads = 1,
                                           .precision = strcmp(device, "cpu") == 0 ? PRECISION_F32
                                                                                   : PRECISION_F64};
    const size_t count = (size_t)BATCH * f->graph->classes;
    const size_t pixels = (size_t)SAMPLES * f->facts.height * f->facts.width * 3;
    const int64_t rows[BATCH] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct engine *e;
    struct evaluator v;
    char path[64];
    OK(engine_open(&e, &options));
    OK(evaluator_open(&v, e, f, false, "in.h5"));
    OK(network_set_weights(v.network, v.arena));
    uint8_t *pictures = engine_alloc(e, pixels);
    double *ours = malloc(count * sizeof(*ours));
    assert_non_null(pictures);
    assert_non_null(ours);
    golden_read(file, "/pixels", H5T_NATIVE_UCHAR, pictures, pixels);
    struct picture_batch batch = {.pixels = pictures,
                                  .slot = rows,
                                  .sample_id = rows,
                                  .count = BATCH,
                                  .augment = AUGMENT_NONE};
    OK(input_load(v.input, &batch, NULL));
    OK(network_forward(v.network, v.input, FORWARD_EVAL));
    const void *logits = network_logits(v.network);
    for (size_t i = 0; i < count; i++)
        ours[i] = engine_real(e) == REAL_F64 ? ((const double *)logits)[i]
                                             : (double)((const float *)logits)[i];
    snprintf(path, sizeof(path), "/%s/start/logits_eval", norm);
    double *theirs = golden_values(file, path, count);
    double apart = test_difference(ours, theirs, count);
    print_message("%s, norm %s, on %s: logits %.2g apart\n", f->graph->arch, norm, device, apart);
    assert_true(apart <= limit);
    free(theirs);
    free(ours);
    engine_free(e, pictures);
    evaluator_close(&v, e);
    engine_close(&e);
}

static void imported_weights_have_pytorchs_logits(void **state)
{
    for (int i = 0; i < NETWORK_COUNT; i++) {
        hid_t file = golden_open(NETWORKS[i].arch);
        const char *norm = NETWORKS[i].norm;
        struct import_request q = request_of(*state, file, NETWORKS[i].arch, norm);
        struct network_file f;
        OK(import_checkpoint(&q));
        OK(network_file_read(&f, q.out, NULL));
        assert_string_equal(network_facts_class(&f.facts, 1), "name 1, of \xc3\xa9");
        check_values(&f, file, norm);
        check_logits(&f, file, norm, "reference", 1e-12);
        if (bench_has_device("cpu"))
            check_logits(&f, file, norm, "cpu", 1e-5);
        network_file_free(&f);
        H5Fclose(file);
    }
}

// ---- export

static void check_same_tensors(const char *path, const char *made_by_pytorch)
{
    struct safetensors ours, theirs;
    OK(safetensors_read(&ours, path));
    OK(safetensors_read(&theirs, made_by_pytorch));
    assert_int_equal(ours.count, theirs.count);
    assert_string_equal(safetensors_text(&ours, "format"), "pt");
    for (size_t i = 0; i < theirs.count; i++) {
        const struct safetensor *t = &theirs.tensors[i], *o = safetensors_find(&ours, t->name);
        if (!o)
            fail_msg("%s is not exported", t->name);
        assert_int_equal(o->type, t->type);
        assert_int_equal(o->rank, t->rank);
        assert_memory_equal(o->shape, t->shape, (size_t)t->rank * sizeof(*t->shape));
        assert_memory_equal(o->data, t->data, t->bytes);
    }
    safetensors_free(&ours);
    safetensors_free(&theirs);
}

static void check_same_file(const char *a, const char *b)
{
    size_t a_bytes, b_bytes;
    uint8_t *a_data = scratch_load(a, &a_bytes), *b_data = scratch_load(b, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a_data, b_data, a_bytes);
    free(a_data);
    free(b_data);
}

static void exported_weights_are_pytorchs_and_come_back_to_the_byte(void **state)
{
    for (int i = 0; i < NETWORK_COUNT; i++) {
        hid_t file = golden_open(NETWORKS[i].arch);
        struct import_request q = request_of(*state, file, NETWORKS[i].arch, NETWORKS[i].norm);
        const char *out = scratch_path(*state, "out.safetensors");
        struct export_request x = {.checkpoint = q.out, .out = out};
        OK(import_checkpoint(&q));
        OK(export_checkpoint(&x));
        check_same_tensors(out, q.in);
        // Without an option: all is in the file.
        const struct import_request again = {
            out, scratch_path(*state, "again.h5"), "", "", "", "", "", "", "", ""};
        x.checkpoint = again.out;
        x.out = scratch_path(*state, "again.safetensors");
        OK(import_checkpoint(&again));
        check_same_file(q.out, again.out);
        OK(export_checkpoint(&x));
        check_same_file(out, x.out);
        H5Fclose(file);
    }
}

// The average is exported in place of the raw weights; where there is none, that is said.
static void the_average_is_exported_when_asked(void **state)
{
    hid_t file = golden_open("conv4");
    struct import_request q = request_of(*state, file, "conv4", "batch");
    struct export_request x = {
        .checkpoint = q.out, .out = scratch_path(*state, "ema.safetensors"), .ema = true};
    struct checkpoint c;
    struct safetensors s;
    OK(import_checkpoint(&q));
    assert_int_equal(export_checkpoint(&x), RETORT_INPUT);
    assert_true(SAID(*state, q.out, "no EMA weights"));
    assert_false(file_exists(x.out));
    OK(checkpoint_read(&c, q.out, false));
    c.ema = malloc(c.total * sizeof(float));
    assert_non_null(c.ema);
    for (size_t i = 0; i < c.total; i++)
        ((float *)c.ema)[i] = (float)i;
    OK(checkpoint_write_file(q.out, &c));
    OK(export_checkpoint(&x));
    OK(safetensors_read(&s, x.out));
    float first[2];
    memcpy(first, safetensors_find(&s, "conv1.weight")->data, sizeof(first));
    assert_true(first[0] == 0.0f && first[1] == 1.0f);
    safetensors_free(&s);
    checkpoint_free(&c);
    H5Fclose(file);
}

// ---- what does not fit

enum change { DROP, EXTRA, SHAPE, HALF, COUNTER_TYPE, WRAP, NOT_A_NUMBER, VARIANCE, COUNTER };

static void change(enum change what, struct safetensor *tensors, size_t *count,
                   struct safetensor *t)
{
    static float values[256]; // more than any of the tensors that are changed
    static const int64_t negative = -1;
    static char wrapped[96];
    memcpy(values, t->data, t->bytes < sizeof(values) ? t->bytes : sizeof(values));
    switch (what) {
    case DROP:
        *t = tensors[--*count];
        break;
    case EXTRA:
        tensors[(*count)++] =
            (struct safetensor){.name = "head.weight", .type = SAFETENSORS_F32, .rank = 1};
        break;
    case SHAPE:
        t->shape[0] *= t->shape[1];
        t->shape[1] = 1;
        break;
    case HALF:
    case COUNTER_TYPE:
        t->type = what == HALF ? SAFETENSORS_F16 : SAFETENSORS_I32;
        t->bytes /= 2;
        break;
    case WRAP:
        snprintf(wrapped, sizeof(wrapped), "module.%s", t->name);
        t->name = wrapped;
        break;
    case NOT_A_NUMBER:
    case VARIANCE:
        values[1] = what == VARIANCE ? -1.0f : NAN;
        t->data = values;
        break;
    case COUNTER:
        t->data = &negative;
        break;
    }
}

// Copies PyTorch's file with one tensor changed.
static void write_changed(const char *path, const char *from, enum change what, const char *name)
{
    struct safetensors s;
    struct safetensor tensors[TENSORS];
    OK(safetensors_read(&s, from));
    size_t count = s.count, at = 0;
    assert_true(count + 1 < TENSORS);
    memcpy(tensors, s.tensors, count * sizeof(*tensors));
    while (strcmp(tensors[at].name, name) != 0)
        assert_true(++at < count);
    change(what, tensors, &count, &tensors[at]);
    OK(safetensors_write(path, NULL, tensors, count));
    safetensors_free(&s);
}

static void tensors_that_do_not_fit_are_named(void **state)
{
    static const struct {
        enum change what;
        const char *name, *says;
    } CASES[] = {
        {DROP, "conv2.weight", "has no tensor \"conv2.weight\", which conv4/6 with norm batch"},
        {EXTRA, "fc2.bias", "tensor \"head.weight\" is none of conv4/6"},
        {SHAPE, "fc2.weight", "tensor \"fc2.weight\" is [850, 1], but [10, 85] in conv4/6"},
        {HALF, "conv1.weight", "tensor \"conv1.weight\" is of F16, not F32; save all"},
        {HALF, "norm1.bias", "tensor \"norm1.bias\" is of F16, not F32"},
        {COUNTER_TYPE, "norm3.num_batches_tracked", "is of I32, not I64"},
        {WRAP, "conv1.weight", "but \"module.conv1.weight\"; save the state_dict() of the network"},
        {NOT_A_NUMBER, "fc1.bias", "element 1 of tensor \"fc1.bias\" is nan"},
        {VARIANCE, "norm4.running_var", "element 1 of tensor \"norm4.running_var\" is -1"},
        {COUNTER, "norm2.num_batches_tracked", "\"norm2.num_batches_tracked\" is -1"},
    };
    hid_t file = golden_open("conv4");
    struct import_request q = request_of(*state, file, "conv4", "batch");
    const char *changed = scratch_path(*state, "changed.safetensors"), *from = q.in;
    q.in = changed;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        write_changed(changed, from, CASES[i].what, CASES[i].name);
        assert_int_equal(import_checkpoint(&q), RETORT_INPUT);
        if (!SAID(*state, changed, CASES[i].says))
            fail_msg("not said: %s", CASES[i].says);
        assert_int_equal(scratch_entries(*state), 2); // the file and the names of the classes
    }
    // Another network's, and one without BatchNorm taken for one with.
    q.in = from;
    q.arch = "conv12/6";
    assert_int_equal(import_checkpoint(&q), RETORT_INPUT);
    assert_true(SAID(*state, from, "conv12/6"));
    q = request_of(*state, file, "conv4", "none");
    q.norm = "batch";
    assert_int_equal(import_checkpoint(&q), RETORT_INPUT);
    assert_true(SAID(*state, "has no tensor \"norm1.num_batches_tracked\"", "norm batch"));
    H5Fclose(file);
}

static void what_nobody_has_told_is_asked_for(void **state)
{
    hid_t file = golden_open("conv4");
    const struct import_request all = request_of(*state, file, "conv4", "batch");
    const char *path = scratch_path(*state, "bad.txt");
    struct import_request q = all;
    const struct {
        const char **option, *value, *says;
        int code;
    } cases[] = {
        {&q.arch, "", "give --arch, one of conv12, conv4", RETORT_USAGE},
        {&q.arch, "conv13", "unknown network \"conv13\"", RETORT_USAGE},
        {&q.size, "", "give --size N", RETORT_USAGE},
        {&q.size, "40x", "--size 40x: expected", RETORT_USAGE},
        {&q.size, "0", "--size 0: expected", RETORT_USAGE},
        {&q.size, "-3x4", "--size -3x4: expected", RETORT_USAGE},
        {&q.size, "40", "\"fc1.weight\" is [85, 32], but [85, 64]", RETORT_INPUT},
        {&q.size, "4", "too small", RETORT_USAGE},
        {&q.mean, "", "give --mean R,G,B", RETORT_USAGE},
        {&q.mean, "1,2", "--mean 1,2: expected three numbers", RETORT_USAGE},
        {&q.mean, "1,2,3,4", "--mean 1,2,3,4: expected three numbers", RETORT_USAGE},
        {&q.mean, "1,2,nan", "--mean 1,2,nan", RETORT_USAGE},
        {&q.deviation, "", "give --deviation R,G,B", RETORT_USAGE},
        {&q.deviation, "1,0,1", "\"pictures\" are no height", RETORT_INPUT},
        {&q.classes, "", "give --classes FILE", RETORT_USAGE},
        {&q.classes, path, "a line is no UTF-8", RETORT_INPUT},
        {&q.classes, "/nowhere/names", "/nowhere/names", RETORT_INPUT},
        {&q.data, "/nowhere/data.h5", "/nowhere/data.h5", RETORT_INPUT},
        {&q.in, "/nowhere/x.safetensors", "/nowhere/x.safetensors", RETORT_INPUT},
        {&q.out, "/nowhere/x.h5", "/nowhere/x.h5", RETORT_WRITE},
    };
    scratch_store(path, "caf\xe9\n", 5);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        q = all;
        *cases[i].option = cases[i].value;
        int rc = import_checkpoint(&q);
        if (rc != cases[i].code || !SAID(*state, cases[i].says))
            fail_msg("code %d, and not said: %s", rc, cases[i].says);
        assert_int_equal(scratch_entries(*state), 2);
    }
    H5Fclose(file);
}

// The __metadata__ as anyone may write it.
static void metadata_that_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *key, *value, *says;
        int code;
    } CASES[] = {
        {"norm", "group", "told.safetensors: teacher.norm: group is not one of", RETORT_INPUT},
        {"arch", "conv4/4/4/4/4/4/4/4/4/4/4/4/4/4/4",
         "told.safetensors: teacher.arch: ", RETORT_INPUT},
        {"pictures", "64", "\"pictures\" of its __metadata__ is no JSON object", RETORT_INPUT},
        {"pictures", "{\"height\":\"a\",\"width\":4}", "\"pictures\" are no height", RETORT_INPUT},
        {"classes", "a,b", "\"classes\" of its __metadata__ is no JSON", RETORT_INPUT},
        {"classes", "{}", "\"classes\" are no list of names", RETORT_INPUT},
    };
    hid_t file = golden_open("conv4");
    struct import_request q = request_of(*state, file, "conv4", "batch");
    const char *told = scratch_path(*state, "told.safetensors");
    struct safetensors s;
    OK(safetensors_read(&s, q.in));
    q.in = told;
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        struct import_request one = q;
        json_t *metadata = json_pack("{s:s}", CASES[i].key, CASES[i].value);
        OK(safetensors_write(told, metadata, s.tensors, s.count));
        one.norm = "";
        if (strcmp(CASES[i].key, "arch") == 0)
            one.arch = "";
        if (strcmp(CASES[i].key, "pictures") == 0) // the options would mend it
            one.size = "";
        if (strcmp(CASES[i].key, "classes") == 0)
            one.classes = "";
        int rc = import_checkpoint(&one);
        if (rc != CASES[i].code || !SAID(*state, CASES[i].says))
            fail_msg("code %d, and not said: %s", rc, CASES[i].says);
        json_decref(metadata);
    }
    safetensors_free(&s);
    H5Fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(imported_weights_have_pytorchs_logits, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(exported_weights_are_pytorchs_and_come_back_to_the_byte,
                                        scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(the_average_is_exported_when_asked, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(tensors_that_do_not_fit_are_named, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(what_nobody_has_told_is_asked_for, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(metadata_that_makes_no_sense_is_refused, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
