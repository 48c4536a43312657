// What PyTorch computes, in the files of make.py, against both engines: logits, losses, gradients,
// and weights and EMA after ten steps.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith/half.h"
#include "base/arith/optimizer.h"
#include "base/error.h"
#include "tests/golden/golden_file.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { BATCH = 8, STEPS = 10, SAMPLES = 24, MAX_PARTS = 2 }; // as in make.py

// Norm over norm, of each parameter. Weights and EMA are held against how far they have moved.
struct limits {
    const char *device;
    double logits, gradients, moved;
};
static const struct limits LIMITS[] = {{"reference", 1e-12, 1e-11, 1e-9},
                                       {"cpu", 1e-5, 1e-4, 1e-3}};

// One network of a file on one engine.
struct golden {
    const char *arch, *norm; // "conv4"; "batch", "none"
    const struct limits *limits;
    hid_t file;
    struct bench b;
    struct input *input;
    struct arenas arenas; // engine memory
    double *initial;      // [graph->total]
    uint8_t *pixels;      // engine memory, [SAMPLES, H, W, 3]
    int32_t *labels;      // engine memory, [SAMPLES]
    uint16_t *teacher;    // engine memory, f16 [SAMPLES, classes]
};
static struct golden golden; // of the group of tests under way

static const char *path_of(const char *kind, const char *name, const char *set)
{
    static char path[128];
    snprintf(path, sizeof(path), "/%s/%s%s%s%s%s", golden.norm, kind, *name ? "/" : "", name,
             *set ? "/" : "", set);
    return path;
}

// ---- the network of the file

static struct graph *golden_graph(int64_t norm)
{
    char arch[32];
    hsize_t dims[4];
    struct graph *g;
    hid_t set = H5Dopen2(golden.file, "/pixels", H5P_DEFAULT), space = H5Dget_space(set);
    assert_int_equal(H5Sget_simple_extent_dims(space, dims, NULL), 4);
    H5Sclose(space);
    H5Dclose(set);
    assert_int_equal(dims[0], SAMPLES);
    struct graph_options options = {.channels = 3,
                                    .height = (int)dims[1],
                                    .width = (int)dims[2],
                                    .classes = (int)golden_number(golden.file, "/", "classes"),
                                    .norm = norm,
                                    .activation = ACTIVATION_RELU};
    golden_text(golden.file, "arch", arch, sizeof(arch));
    OK(graph_create(&g, arch, &options));
    return g;
}

// The file's vectors lie as our arenas do: the same parameters in the same order.
static void check_layout(const struct graph *g)
{
    size_t count = (size_t)g->param_count;
    char(*names)[40] = malloc(count * sizeof(*names));
    double *counts = golden_values(golden.file, path_of("start", "", "counts"), count);
    hid_t type = H5Tcopy(H5T_C_S1);
    assert_non_null(names);
    assert_true(H5Tset_size(type, sizeof(*names)) >= 0);
    golden_read(golden.file, path_of("start", "", "names"), type, names, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(names[i], g->params[i].name);
        assert_true(counts[i] == (double)g->params[i].count);
    }
    H5Tclose(type);
    free(counts);
    free(names);
}

static void load_samples(void)
{
    struct golden *t = &golden;
    const struct node *in = &t->b.graph->nodes[0];
    size_t pixels = (size_t)SAMPLES * in->height * in->width * 3;
    size_t logits = (size_t)SAMPLES * t->b.graph->classes;
    double *teacher = golden_values(t->file, "/teacher", logits);
    struct picture_format format = {.height = in->height, .width = in->width};
    int fits = 1;
    golden_read(t->file, "/mean", H5T_NATIVE_DOUBLE, format.mean, 3);
    golden_read(t->file, "/deviation", H5T_NATIVE_DOUBLE, format.deviation, 3);
    OK(input_create(&t->input, t->b.engine, &format, BATCH));
    t->pixels = engine_alloc(t->b.engine, pixels);
    t->labels = engine_alloc(t->b.engine, SAMPLES * sizeof(*t->labels));
    t->teacher = engine_alloc(t->b.engine, logits * sizeof(*t->teacher));
    assert_true(t->pixels && t->labels && t->teacher);
    golden_read(t->file, "/pixels", H5T_NATIVE_UCHAR, t->pixels, pixels);
    golden_read(t->file, "/labels", H5T_NATIVE_INT32, t->labels, SAMPLES);
    for (size_t i = 0; i < logits; i++) {
        t->teacher[i] = half_from_double(teacher[i], &fits);
        assert_true(half_to_double(t->teacher[i]) == teacher[i]);
    }
    free(teacher);
}

static int open_golden(void **state)
{
    struct golden *t = &golden;
    (void)state;
    t->file = golden_open(t->arch);
    struct graph *g = golden_graph(strcmp(t->norm, "batch") == 0 ? NORM_BATCH : NORM_NONE);
    const struct bench_options options = {
        .device = t->limits->device, .threads = 1, .max_batch = BATCH};
    check_layout(g);
    bench_open_on(&t->b, &options, g, 1, 1);
    t->initial = golden_values(t->file, path_of("start", "", "initial"), g->total);
    void **arenas[] = {&t->arenas.gradients, &t->arenas.moment1, &t->arenas.moment2,
                       &t->arenas.ema};
    for (size_t i = 0; i < sizeof(arenas) / sizeof(arenas[0]); i++) {
        *arenas[i] = engine_alloc(t->b.engine, g->total * real_bytes(engine_real(t->b.engine)));
        assert_non_null(*arenas[i]);
    }
    t->arenas.weights = t->b.arena;
    t->arenas.end = g->total;
    load_samples();
    return 0;
}

static int close_golden(void **state)
{
    struct golden *t = &golden;
    (void)state;
    void *memory[] = {t->arenas.gradients, t->arenas.moment1, t->arenas.moment2, t->arenas.ema,
                      t->pixels,           t->labels,         t->teacher};
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        engine_free(t->b.engine, memory[i]);
    input_destroy(&t->input);
    bench_close(&t->b);
    free(t->initial);
    H5Fclose(t->file);
    return 0;
}

// ---- steps

// Initial weights and EMA, no momentum.
static void start(void)
{
    struct golden *t = &golden;
    size_t bytes = t->b.graph->total * real_bytes(engine_real(t->b.engine));
    memcpy(t->b.weights, t->initial, t->b.graph->total * sizeof(double));
    bench_set_weights(&t->b);
    OK(engine_upload(t->b.engine, t->arenas.ema, t->b.arena, bytes));
    OK(engine_zero(t->b.engine, t->arenas.moment1, bytes));
    OK(engine_zero(t->b.engine, t->arenas.moment2, bytes));
}

static void load_rows(struct input *input, const int64_t *rows, int count)
{
    struct picture_batch batch = {.pixels = golden.pixels,
                                  .slot = rows,
                                  .sample_id = rows,
                                  .count = count,
                                  .augment = AUGMENT_NONE};
    OK(input_load(input, &batch, NULL));
}

// The gradients of one step's batch, in micro-batches, and its mean losses.
static void batch_gradients(int step, const double *parts, size_t part_count,
                            const struct loss_spec *loss, double *losses)
{
    struct golden *t = &golden;
    struct bench *b = &t->b;
    enum real_type real = engine_real(b->engine);
    double sums[LOSS_SUMS] = {0};
    int64_t rows[BATCH], *first = rows;
    for (int i = 0; i < BATCH; i++)
        rows[i] = (BATCH * step + i) % SAMPLES;
    b->scalars.inverse_batch = 1.0 / BATCH;
    OK(engine_zero(b->engine, t->arenas.gradients, b->graph->total * real_bytes(real)));
    for (size_t k = 0; k < part_count; k++) {
        struct loss_targets targets = {
            .labels = t->labels, .teacher = t->teacher, .sample_id = first, .count = (int)parts[k]};
        load_rows(t->input, first, targets.count);
        OK(network_forward(b->network, t->input, FORWARD_TRAIN));
        OK(network_loss(b->network, &targets, loss, &b->scalars, sums));
        OK(network_backward(b->network, b->gradient_arena, &b->scalars, NULL));
        OK(engine_add(b->engine, t->arenas.gradients, b->gradient_arena, b->graph->total, real));
        first += targets.count;
    }
    for (int i = 0; i <= LOSS_KD; i++) // total, CE, KD
        losses[i] = sums[i] / BATCH;
}

static struct loss_spec loss_of(const char *object)
{
    double alpha = golden_number(golden.file, object, "alpha");
    bool elementwise = golden_number(golden.file, object, "elementwise") != 0.0;
    return (struct loss_spec){.kind = alpha > 0.0 ? DISTILL_KD : DISTILL_NONE,
                              .reduction = elementwise ? REDUCTION_ELEMENTWISE : REDUCTION_BATCH,
                              .temperature = golden_number(golden.file, object, "temperature"),
                              .alpha = alpha,
                              .label_smoothing = golden_number(golden.file, object, "smoothing")};
}

static struct optimizer_spec optimizer_of(const char *object)
{
    struct optimizer_spec o = {.kind = OPTIMIZER_SGD,
                               .weight_decay = golden_number(golden.file, object, "weight_decay")};
    if (golden_number(golden.file, object, "adamw") == 0.0) {
        o.momentum = golden_number(golden.file, object, "momentum");
        o.nesterov = true;
        return o;
    }
    o.kind = OPTIMIZER_ADAMW;
    o.beta1 = golden_number(golden.file, object, "beta1");
    o.beta2 = golden_number(golden.file, object, "beta2");
    o.epsilon = golden_number(golden.file, object, "epsilon");
    return o;
}

// ---- comparisons

// Each parameter of an arena against the file's: |ours - theirs| / |theirs - from|, from 0 where
// there is none. Returns the largest.
static double check_arena(const char *what, const void *arena, const char *path, const double *from,
                          double limit)
{
    const struct graph *g = golden.b.graph;
    double *theirs = golden_values(golden.file, path, g->total), worst = 0.0;
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        double error = 0.0, scale = 0.0;
        for (size_t k = p->offset; k < p->offset + p->count; k++) {
            error += pow(bench_real(&golden.b, arena, k) - theirs[k], 2);
            scale += pow(theirs[k] - (from != NULL ? from[k] : 0.0), 2);
        }
        double apart = sqrt(error / scale);
        if (!(apart <= limit))
            fail_msg("%s: %s is %.3g apart", what, p->name, apart);
        worst = apart > worst ? apart : worst;
    }
    free(theirs);
    return worst;
}

static void check_losses(const char *what, const double *losses, const double *expected)
{
    for (int i = 0; i <= LOSS_KD; i++)
        if (!(fabs(losses[i] - expected[i]) <= golden.limits->logits * (1.0 + expected[i])))
            fail_msg("%s: loss %d is %.17g, not %.17g", what, i, losses[i], expected[i]);
}

static void check_logits(enum forward_mode mode, const char *set)
{
    size_t count = (size_t)BATCH * golden.b.graph->classes;
    double *theirs = golden_values(golden.file, path_of("start", "", set), count);
    double *ours = malloc(count * sizeof(*ours));
    assert_non_null(ours);
    OK(network_forward(golden.b.network, golden.input, mode));
    for (size_t i = 0; i < count; i++)
        ours[i] = bench_logit(&golden.b, i);
    double apart = test_difference(ours, theirs, count);
    print_message("%s: %.2g apart\n", set, apart);
    assert_true(apart <= golden.limits->logits);
    free(theirs);
    free(ours);
}

static void logits_are_pytorchs(void **state)
{
    (void)state;
    const int64_t rows[BATCH] = {0, 1, 2, 3, 4, 5, 6, 7};
    start();
    load_rows(golden.input, rows, BATCH);
    check_logits(FORWARD_TRAIN, "logits_train");
    check_logits(FORWARD_EVAL, "logits_eval");
}

static void gradients_are_pytorchs(void **state)
{
    (void)state;
    static const char *const LOSSES[] = {"ce", "smooth", "kd", "kd_smooth", "elementwise"};
    const double whole = BATCH;
    start();
    for (size_t i = 0; i < sizeof(LOSSES) / sizeof(LOSSES[0]); i++) {
        const char *name = LOSSES[i];
        struct loss_spec loss = loss_of(path_of("loss", name, ""));
        double losses[3], expected[3];
        golden_read(golden.file, path_of("loss", name, "losses"), H5T_NATIVE_DOUBLE, expected, 3);
        batch_gradients(0, &whole, 1, &loss, losses);
        check_losses(name, losses, expected);
        double worst =
            check_arena(name, golden.arenas.gradients, path_of("loss", name, "gradients"), NULL,
                        golden.limits->gradients);
        print_message("%s: gradients at most %.2g apart\n", name, worst);
    }
}

// ---- batch_sync

static int add_parts(void *context, double *const *sums, int microbatches, size_t count)
{
    (void)context;
    for (int k = 1; k < microbatches; k++)
        OK(engine_add(golden.b.engine, sums[0], sums[k], count, REAL_F64));
    return RETORT_OK;
}

// The gradients of the first batch, in two micro-batches side by side, and its mean losses.
static void synced_gradients(struct network_group *group, struct input *const *inputs,
                             const struct loss_spec *loss, double *losses)
{
    static const int64_t rows[BATCH] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const int counts[MAX_PARTS] = {3, 5};
    struct golden *t = &golden;
    void *arenas[MAX_PARTS] = {t->arenas.gradients, t->arenas.moment1};
    struct step_scalars scalars = {.inverse_batch = 1.0 / BATCH};
    double sums[LOSS_SUMS] = {0};
    for (int k = 0; k < MAX_PARTS; k++)
        load_rows(inputs[k], k == 0 ? rows : rows + counts[0], counts[k]);
    OK(network_group_forward(group, (const struct input *const *)inputs));
    for (int k = 0; k < MAX_PARTS; k++) {
        struct loss_targets targets = {.labels = t->labels,
                                       .teacher = t->teacher,
                                       .sample_id = k == 0 ? rows : rows + counts[0],
                                       .count = counts[k]};
        OK(network_loss(network_group_member(group, k), &targets, loss, &scalars, sums));
    }
    OK(network_group_backward(group, arenas, &scalars, NULL));
    OK(engine_add(t->b.engine, arenas[0], arenas[1], t->b.graph->total, engine_real(t->b.engine)));
    for (int i = 0; i <= LOSS_KD; i++)
        losses[i] = sums[i] / BATCH;
}

// Two micro-batches have the statistics and gradients of PyTorch's BatchNorm over all samples.
static void batch_sync_in_two_parts_is_pytorchs_batchnorm(void **state)
{
    struct golden *t = &golden;
    struct graph *g;
    struct network *n;
    struct network_group *group;
    struct input *inputs[MAX_PARTS];
    struct picture_format format = {.height = t->b.graph->nodes[0].height,
                                    .width = t->b.graph->nodes[0].width};
    struct network_options options = {.max_batch = BATCH, .training = true};
    struct batch_sum whole = {add_parts, NULL};
    struct loss_spec loss = loss_of(path_of("loss", "kd_smooth", ""));
    double losses[3], expected[3];
    (void)state;
    golden_read(t->file, "/mean", H5T_NATIVE_DOUBLE, format.mean, 3);
    golden_read(t->file, "/deviation", H5T_NATIVE_DOUBLE, format.deviation, 3);
    g = golden_graph(strcmp(t->norm, "batch") == 0 ? NORM_BATCH_SYNC : NORM_NONE);
    OK(network_create(&n, t->b.engine, g, &options));
    OK(network_group_create(&group, n, MAX_PARTS, &whole));
    for (int k = 0; k < MAX_PARTS; k++)
        OK(input_create(&inputs[k], t->b.engine, &format, BATCH));
    start();
    OK(network_set_weights(n, t->b.arena));
    synced_gradients(group, inputs, &loss, losses);
    golden_read(t->file, path_of("loss", "kd_smooth", "losses"), H5T_NATIVE_DOUBLE, expected, 3);
    check_losses("in two parts", losses, expected);
    double worst =
        check_arena("in two parts", t->arenas.gradients, path_of("loss", "kd_smooth", "gradients"),
                    NULL, t->limits->gradients);
    print_message("batch_sync in two parts: gradients at most %.2g apart\n", worst);
    network_group_destroy(&group);
    network_destroy(&n);
    for (int k = 0; k < MAX_PARTS; k++)
        input_destroy(&inputs[k]);
    graph_destroy(&g);
}

// ---- training

// Ten steps as the run's attributes say.
static void train(const char *name)
{
    struct golden *t = &golden;
    const char *object = path_of("run", name, "");
    struct loss_spec loss = loss_of(object);
    struct optimizer_spec optimizer = optimizer_of(object);
    double lr[STEPS], totals[STEPS], losses[3], parts[MAX_PARTS];
    double decay = golden_number(t->file, "/", "ema_decay");
    size_t part_count = golden_count(t->file, path_of("run", name, "parts"));
    assert_in_range(part_count, 1, MAX_PARTS);
    golden_read(t->file, path_of("run", name, "parts"), H5T_NATIVE_DOUBLE, parts, part_count);
    golden_read(t->file, path_of("run", name, "lr"), H5T_NATIVE_DOUBLE, lr, STEPS);
    golden_read(t->file, path_of("run", name, "totals"), H5T_NATIVE_DOUBLE, totals, STEPS);
    start();
    for (int s = 0; s < STEPS; s++) {
        t->b.scalars = (struct step_scalars){.lr = lr[s],
                                             .ema_decay = ema_decay_at(decay, s),
                                             .bias1 = 1.0 - pow(optimizer.beta1, s + 1),
                                             .bias2 = 1.0 - pow(optimizer.beta2, s + 1)};
        batch_gradients(s, parts, part_count, &loss, losses);
        if (!(fabs(losses[LOSS_TOTAL] - totals[s]) <= t->limits->moved * totals[s]))
            fail_msg("%s: loss %.12g in step %d, not %.12g", name, losses[0], s, totals[s]);
        OK(engine_update(t->b.engine, t->b.graph, &t->arenas, &optimizer, &t->b.scalars));
        OK(network_set_weights(t->b.network, t->arenas.weights));
    }
}

static void ten_steps_are_pytorchs(void **state)
{
    (void)state;
    static const char *const RUNS[] = {"sgd", "sgd_kd", "adamw", "adamw_kd", "microbatches"};
    for (size_t i = 0; i < sizeof(RUNS) / sizeof(RUNS[0]); i++) {
        const char *name = RUNS[i];
        train(name);
        double weights = check_arena(name, golden.arenas.weights, path_of("run", name, "weights"),
                                     golden.initial, golden.limits->moved);
        double ema = check_arena(name, golden.arenas.ema, path_of("run", name, "ema"),
                                 golden.initial, golden.limits->moved);
        print_message("%s: weights at most %.2g apart, EMA %.2g\n", name, weights, ema);
    }
}

int main(void)
{
    static const char *const ARCHS[] = {"conv4", "conv12"}, *const NORMS[] = {"batch", "none"};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_pytorchs),
        cmocka_unit_test(gradients_are_pytorchs),
        cmocka_unit_test(batch_sync_in_two_parts_is_pytorchs_batchnorm),
        cmocka_unit_test(ten_steps_are_pytorchs),
    };
    int failed = 0;
    for (int i = 0; i < 8; i++) {
        char name[64];
        golden = (struct golden){
            .arch = ARCHS[i / 2 % 2], .norm = NORMS[i % 2], .limits = &LIMITS[i / 4]};
        snprintf(name, sizeof(name), "%s, norm %s, on %s", golden.arch, golden.norm,
                 golden.limits->device);
        if (bench_has_device(golden.limits->device))
            failed += cmocka_run_group_tests_name(name, tests, open_golden, close_golden);
    }
    return failed;
}
