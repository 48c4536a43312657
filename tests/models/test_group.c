// Micro-batches side by side: a synchronised BatchNorm over the parts of a batch is a plain one
// over the whole of it, in both engines.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { BATCH = 9, PARTS = 5, SIZE = 18, CLASSES = 7 };
static const int COUNTS[PARTS] = {3, 2, 0, 1, 3}; // one is empty, as in a last batch

// A batch on one engine: in parts, each held by a member of a group, or as one part.
struct batch {
    const char *device;
    struct engine *engine;
    struct graph *graph; // owned
    struct network *first;
    struct network_group *group; // NULL: one part, `first` alone
    struct input *inputs[PARTS];
    int parts, counts[PARTS];
    void *weights, *gradients[PARTS], *sum; // [graph->total]
    struct step_scalars *scalars;
    double *losses;
    int32_t *labels;
    int stops; // of forward and backward so far
};

// The total goes to sums[0]; the others are left as no engine may use them.
static int add_parts(void *context, double *const *sums, int microbatches, size_t count)
{
    struct batch *b = context;
    assert_int_equal(microbatches, PARTS);
    for (int k = 1; k < microbatches; k++)
        for (size_t i = 0; i < count; i++) {
            assert_true(COUNTS[k] > 0 || sums[k][i] == 0.0);
            sums[0][i] += sums[k][i];
            sums[k][i] = nan("");
        }
    b->stops++;
    return RETORT_OK;
}

static size_t arena_bytes(const struct batch *b)
{
    return b->graph->total * real_bytes(engine_real(b->engine));
}

static double at(const struct batch *b, const void *arena, size_t i)
{
    return engine_real(b->engine) == REAL_F64 ? ((const double *)arena)[i]
                                              : (double)((const float *)arena)[i];
}

static void fill_weights(struct batch *b)
{
    const struct graph *g = b->graph;
    float *initial = malloc(g->total * sizeof *initial);
    assert_non_null(initial);
    graph_init_weights(g, INIT_KAIMING_NORMAL, 3, initial);
    for (int i = 0; i < g->param_count; i++)
        for (size_t k = 0; g->params[i].role != PARAM_WEIGHT && k < g->params[i].count; k++)
            initial[g->params[i].offset + k] +=
                (float)(0.3 * test_uniform(4, g->params[i].offset + k));
    OK(engine_from_f32(b->engine, b->weights, initial, g->total));
    OK(network_set_weights(b->first, b->weights));
    free(initial);
}

// Pictures around `offset`: part k has those that come after the parts before it.
static void load_pictures(struct batch *b, double offset)
{
    const struct node *in = &b->graph->nodes[0];
    size_t picture = (size_t)in->channels * in->height * in->width;
    double *values = malloc(BATCH * picture * sizeof *values), *from = values;
    assert_non_null(values);
    for (size_t i = 0; i < BATCH * picture; i++)
        values[i] = offset + 1.5 * test_uniform(6, i);
    for (int k = 0; k < b->parts; k++) {
        OK(input_load_values(b->inputs[k], from, b->counts[k]));
        from += (size_t)b->counts[k] * picture;
    }
    free(values);
}

// The graph is taken over.
static void batch_open(struct batch *b, const char *device, struct graph *g, bool in_parts,
                       int threads)
{
    bool reference = strcmp(device, "reference") == 0;
    struct engine_options options = {.device = device,
                                     .threads = threads,
                                     .precision = reference ? PRECISION_F64 : PRECISION_F32};
    struct network_options net = {.max_batch = in_parts ? 3 : BATCH, .training = true};
    struct picture_format format = {
        .height = g->nodes[0].height, .width = g->nodes[0].width, .deviation = {1.0, 1.0, 1.0}};
    struct batch_sum whole = {add_parts, b};
    *b = (struct batch){.device = device, .graph = g, .parts = in_parts ? PARTS : 1};
    OK(engine_open(&b->engine, &options));
    OK(network_create(&b->first, b->engine, g, &net));
    if (in_parts)
        OK(network_group_create(&b->group, b->first, PARTS, &whole));
    for (int k = 0; k < b->parts; k++) {
        b->counts[k] = in_parts ? COUNTS[k] : BATCH;
        OK(input_create(&b->inputs[k], b->engine, &format, net.max_batch));
        b->gradients[k] = engine_alloc(b->engine, arena_bytes(b));
    }
    b->weights = engine_alloc(b->engine, arena_bytes(b));
    b->sum = engine_alloc(b->engine, arena_bytes(b));
    b->scalars = engine_alloc(b->engine, sizeof *b->scalars);
    b->losses = engine_alloc(b->engine, LOSS_SUMS * sizeof(double));
    b->labels = engine_alloc(b->engine, BATCH * sizeof(int32_t));
    b->scalars->inverse_batch = 1.0 / BATCH;
    for (int i = 0; i < BATCH; i++)
        b->labels[i] = (i * 3 + 1) % g->classes;
    fill_weights(b);
    load_pictures(b, 0.0);
}

static void batch_close(struct batch *b)
{
    network_group_destroy(&b->group);
    network_destroy(&b->first);
    for (int k = 0; k < b->parts; k++) {
        input_destroy(&b->inputs[k]);
        engine_free(b->engine, b->gradients[k]);
    }
    engine_free(b->engine, b->weights);
    engine_free(b->engine, b->sum);
    engine_free(b->engine, b->scalars);
    engine_free(b->engine, b->losses);
    engine_free(b->engine, b->labels);
    engine_close(&b->engine);
    graph_destroy(&b->graph);
}

static struct network *member(const struct batch *b, int k)
{
    return b->group != NULL ? network_group_member(b->group, k) : b->first;
}

// The whole batch's mean loss.
static double forward(struct batch *b)
{
    int64_t ids[BATCH], *id = ids;
    struct loss_spec spec = {.kind = DISTILL_NONE};
    for (int i = 0; i < BATCH; i++)
        ids[i] = i;
    memset(b->losses, 0, LOSS_SUMS * sizeof(double));
    if (b->group != NULL)
        OK(network_group_forward(b->group, (const struct input *const *)b->inputs));
    else
        OK(network_forward(b->first, b->inputs[0], FORWARD_TRAIN));
    for (int k = 0; k < b->parts; k++) {
        struct loss_targets targets = {.labels = b->labels, .sample_id = id, .count = b->counts[k]};
        OK(network_loss(member(b, k), &targets, &spec, b->scalars, b->losses));
        id += b->counts[k];
    }
    return b->losses[LOSS_TOTAL] / BATCH;
}

// Leaves the sum of the parts' gradients.
static double step(struct batch *b)
{
    double loss = forward(b);
    if (b->group != NULL)
        OK(network_group_backward(b->group, b->gradients, b->scalars, NULL));
    else
        OK(network_backward(b->first, b->gradients[0], b->scalars, NULL));
    OK(engine_zero(b->engine, b->sum, arena_bytes(b)));
    for (int k = 0; k < b->parts; k++)
        OK(engine_add(b->engine, b->sum, b->gradients[k], b->graph->total, engine_real(b->engine)));
    return loss;
}

static struct graph *network(const char *arch, int64_t norm, int64_t activation)
{
    struct graph *g;
    struct graph_options options = {3, SIZE, SIZE, CLASSES, norm, activation};
    OK(graph_create(&g, arch, &options));
    return g;
}

// ||a - b|| / ||b|| of one parameter in two sums.
static double apart(const struct batch *a, const struct batch *b, const struct param *p)
{
    double error = 0.0, norm = 0.0;
    for (size_t i = p->offset; i < p->offset + p->count; i++) {
        error += pow(at(a, a->sum, i) - at(b, b->sum, i), 2);
        norm += pow(at(b, b->sum, i), 2);
    }
    return sqrt(error / norm);
}

// Row `row` of the batch's logits.
static double logit(const struct batch *b, int row, int class)
{
    int k = 0;
    while (row >= b->counts[k])
        row -= b->counts[k++];
    return at(b, network_logits(member(b, k)), (size_t)row * CLASSES + class);
}

static void assert_same_step(struct batch *parts, struct batch *whole, double tolerance)
{
    double loss = step(parts), plain = step(whole);
    assert_true(fabs(loss - plain) <= tolerance * plain);
    for (int row = 0; row < BATCH; row++)
        for (int c = 0; c < CLASSES; c++)
            assert_true(fabs(logit(parts, row, c) - logit(whole, row, c)) <= 10.0 * tolerance);
    for (int i = 0; i < whole->graph->param_count; i++) {
        const struct param *p = &whole->graph->params[i];
        if (!(apart(parts, whole, p) <= tolerance))
            fail_msg("%s on %s: %.3g apart", p->name, parts->device, apart(parts, whole, p));
    }
}

// Losses, logits, gradients and statistics: a part's statistics are the whole batch's.
static void parts_equal_whole(const char *arch, const char *device, const char *other,
                              int64_t activation, int threads, double tolerance)
{
    struct batch parts, whole;
    batch_open(&parts, device, network(arch, NORM_BATCH_SYNC, activation), true, threads);
    batch_open(&whole, other, network(arch, NORM_BATCH, activation), false, 1);
    assert_same_step(&parts, &whole, tolerance);
    for (int k = 0; k < PARTS; k++)
        for (size_t i = parts.graph->trainable; i < parts.graph->total; i++) {
            double share = (double)COUNTS[k] / BATCH * at(&parts, parts.sum, i);
            assert_true(fabs(at(&parts, parts.gradients[k], i) - share) <= 1e-6 * fabs(share));
        }
    batch_close(&parts);
    batch_close(&whole);
}

static void reference_parts_are_the_whole(void **state)
{
    (void)state;
    parts_equal_whole("conv4/6", "reference", "reference", ACTIVATION_RELU, 1, 1e-11);
    parts_equal_whole("conv12/6", "reference", "reference", ACTIVATION_RELU, 1, 1e-10);
}

// Without ReLU, against the reference engine; with it, where a unit may flip by rounding, against
// oneDNN's own BatchNorm more loosely.
static void cpu_parts_are_the_whole(void **state)
{
    (void)state;
    parts_equal_whole("conv4/4", "cpu", "reference", ACTIVATION_NONE, 1, 1e-5);
    parts_equal_whole("conv12/4", "cpu", "reference", ACTIVATION_NONE, 2, 1e-4);
    parts_equal_whole("conv4/4", "cpu", "cpu", ACTIVATION_RELU, 1, 1e-3);
}

static void a_network_alone_is_the_whole_batch(void **state)
{
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct batch synced, plain;
        batch_open(&synced, devices[i], network("conv4/6", NORM_BATCH_SYNC, ACTIVATION_NONE), false,
                   1);
        batch_open(&plain, "reference", network("conv4/6", NORM_BATCH, ACTIVATION_NONE), false, 1);
        assert_same_step(&synced, &plain, i == 0 ? 1e-13 : 1e-5);
        batch_close(&synced);
        batch_close(&plain);
    }
}

// ---- derivatives: of the whole batch's loss, in parts

static double loss_beside(struct batch *b, const struct param *p, const double *direction,
                          double move)
{
    double *w = (double *)b->weights + p->offset;
    for (size_t i = 0; i < p->count; i++)
        w[i] += move * direction[i];
    double loss = forward(b);
    for (size_t i = 0; i < p->count; i++)
        w[i] -= move * direction[i];
    return loss;
}

static void check_param(struct batch *b, const struct param *p)
{
    const double step_size = 2e-6;
    double computed = 0.0, squares = 0.0;
    const double *gradient = (const double *)b->sum + p->offset;
    double *direction = malloc(p->count * sizeof *direction);
    assert_non_null(direction);
    for (size_t i = 0; i < p->count; i++) {
        direction[i] = (test_uniform(8, p->offset + i) < 0.0 ? -1.0 : 1.0) / sqrt((double)p->count);
        computed += direction[i] * gradient[i];
        squares += gradient[i] * gradient[i];
    }
    double rms = sqrt(squares / (double)p->count);
    double measured =
        (loss_beside(b, p, direction, step_size) - loss_beside(b, p, direction, -step_size)) /
        (2.0 * step_size);
    assert_true(rms > 1e-7);
    if (fabs(measured - computed) > 1e-6 * (fabs(computed) + rms))
        fail_msg("%s: %.12g by differences, %.12g by backward, scale %g", p->name, measured,
                 computed, rms);
    free(direction);
}

static void parts_match_differences(void **state)
{
    (void)state;
    struct batch b;
    batch_open(&b, "reference", network("conv4/12", NORM_BATCH_SYNC, ACTIVATION_RELU), true, 1);
    step(&b);
    for (int i = 0; i < b.graph->param_count; i++)
        if (b.graph->params[i].offset < b.graph->trainable)
            check_param(&b, &b.graph->params[i]);
    batch_close(&b);
}

// ---- rounding

// Channels whose mean is a thousand deviations: f32's own loss is all there is.
static void large_means_cost_no_digits(void **state)
{
    (void)state;
    struct batch sides[2];
    for (int i = 0; i < 2; i++) {
        struct graph *g;
        OK(graph_begin(&g, "far", 3, SIZE, SIZE));
        OK(graph_add_conv(g, "conv", 16, 1, 1, false));
        OK(graph_add_batchnorm(g, "norm", true));
        OK(graph_add_linear(g, "fc", CLASSES));
        OK(graph_finish(g));
        batch_open(&sides[i], i == 0 ? "cpu" : "reference", g, true, 1);
        load_pictures(&sides[i], 1024.0);
    }
    step(&sides[0]);
    step(&sides[1]);
    for (int i = 0; i < sides[0].graph->param_count; i++) {
        const struct param *p = &sides[0].graph->params[i];
        if (p->rank == 4) // where the convolution itself cancels: its dy sum to 0
            continue;
        if (!(apart(&sides[0], &sides[1], p) <= 1e-3))
            fail_msg("%s: %.3g apart", p->name, apart(&sides[0], &sides[1], p));
    }
    batch_close(&sides[0]);
    batch_close(&sides[1]);
}

// ---- the contract

struct order {
    struct batch *batch;
    size_t next[PARTS]; // where the part's ranges begin so far, from the end
    int last;           // part reported last
};

static int note_ready(void *context, int microbatch, size_t begin, size_t end)
{
    struct order *o = context;
    const struct graph *g = o->batch->graph;
    bool statistics = end == g->total;
    assert_int_equal(microbatch, (o->last + 1) % PARTS); // all parts in turn, layer by layer
    assert_true(statistics ? begin == g->trainable : end == o->next[microbatch]);
    o->next[microbatch] = begin;
    o->last = microbatch;
    // What the part has in this range is taken: the next part has the same arena.
    for (size_t i = begin; i < end; i++) {
        ((double *)o->batch->sum)[i] += ((double *)o->batch->gradients[0])[i];
        ((double *)o->batch->gradients[0])[i] = nan("");
    }
    return RETORT_OK;
}

// Parts one after the other in each layer, through one arena; as many stops as layers need.
static void parts_take_turns_in_a_layer(void **state)
{
    (void)state;
    struct batch b;
    batch_open(&b, "reference", network("conv4/12", NORM_BATCH_SYNC, ACTIVATION_RELU), true, 1);
    step(&b);
    assert_int_equal(b.stops, 4 * 3); // two forward, one backward
    double *expected = malloc(arena_bytes(&b));
    assert_non_null(expected);
    memcpy(expected, b.sum, arena_bytes(&b));
    void *same[PARTS];
    for (int k = 0; k < PARTS; k++)
        same[k] = b.gradients[0];
    struct order order = {.batch = &b, .last = PARTS - 1};
    struct ready_callback ready = {note_ready, &order};
    memset(b.sum, 0, arena_bytes(&b));
    forward(&b);
    OK(network_group_backward(b.group, same, b.scalars, &ready));
    for (int k = 0; k < PARTS; k++)
        assert_int_equal(order.next[k], 0);
    assert_memory_equal(b.sum, expected, arena_bytes(&b));
    free(expected);
    batch_close(&b);
}

// The same bits as a plain BatchNorm's: running statistics are all it needs.
static void evaluation_is_that_of_batch(void **state)
{
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct batch synced, plain;
        batch_open(&synced, devices[i], network("conv4/4", NORM_BATCH_SYNC, ACTIVATION_RELU), false,
                   1);
        batch_open(&plain, devices[i], network("conv4/4", NORM_BATCH, ACTIVATION_RELU), false, 1);
        OK(network_forward(synced.first, synced.inputs[0], FORWARD_EVAL));
        OK(network_forward(plain.first, plain.inputs[0], FORWARD_EVAL));
        for (int row = 0; row < BATCH; row++)
            for (int c = 0; c < CLASSES; c++)
                assert_true(fabs(logit(&synced, row, c) - logit(&plain, row, c)) <= 1e-5);
        batch_close(&synced);
        batch_close(&plain);
    }
}

// Weights and workspaces are held once.
static void members_share_weights(void **state)
{
    (void)state;
    struct batch b, alone;
    batch_open(&b, "cpu", network("conv4", NORM_BATCH_SYNC, ACTIVATION_RELU), true, 1);
    size_t weights = b.graph->total * sizeof(float);
    size_t member_bytes = network_memory(network_group_member(b.group, 1));
    assert_true(network_memory(b.first) > member_bytes + weights / 2);
    assert_true(network_group_memory(b.group) ==
                network_memory(b.first) + (PARTS - 1) * member_bytes);
    double first = step(&b);
    size_t before = network_group_memory(b.group);
    batch_open(&alone, "cpu", network("conv4", NORM_BATCH, ACTIVATION_RELU), false, 1);
    double other = step(&alone); // another network in between changes nothing
    assert_true(fabs(first - other) < 1e-4);
    assert_true(step(&b) == first);
    assert_int_equal(network_group_memory(b.group), before);
    batch_close(&alone);
    batch_close(&b);
}

static int fail_parts(void *context, double *const *sums, int microbatches, size_t count)
{
    (void)context;
    (void)sums;
    (void)microbatches;
    (void)count;
    return RETORT_RANK;
}

static void a_failing_sum_ends_the_pass(void **state)
{
    (void)state;
    struct batch b;
    struct network_group *failing;
    struct batch_sum whole = {fail_parts, NULL};
    batch_open(&b, "reference", network("conv4/12", NORM_BATCH_SYNC, ACTIVATION_RELU), true, 1);
    OK(network_group_create(&failing, b.first, PARTS, &whole));
    assert_int_equal(network_group_forward(failing, (const struct input *const *)b.inputs),
                     RETORT_RANK);
    network_group_destroy(&failing);
    step(&b); // the first network is as it was
    batch_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_parts_are_the_whole),
        cmocka_unit_test(cpu_parts_are_the_whole),
        cmocka_unit_test(a_network_alone_is_the_whole_batch),
        cmocka_unit_test(parts_match_differences),
        cmocka_unit_test(large_means_cost_no_digits),
        cmocka_unit_test(parts_take_turns_in_a_layer),
        cmocka_unit_test(evaluation_is_that_of_batch),
        cmocka_unit_test(members_share_weights),
        cmocka_unit_test(a_failing_sum_ends_the_pass),
    };
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
