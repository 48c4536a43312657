#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/models/support.h"

static struct graph *create(const char *arch, int64_t norm, int size, int classes)
{
    struct graph *g = NULL;
    struct graph_options options = {.channels = 3,
                                    .height = size,
                                    .width = size,
                                    .classes = classes,
                                    .norm = norm,
                                    .activation = ACTIVATION_RELU};
    assert_int_equal(graph_create(&g, arch, &options), 0);
    return g;
}

static const struct param *param_named(const struct graph *g, const char *name)
{
    for (int i = 0; i < g->param_count; i++)
        if (strcmp(g->params[i].name, name) == 0)
            return &g->params[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

// 3×3 kernels: 9 (3·12 + 12·12 + 12·24 + 24·24 + 24·48 + 48·48 + 48·96 + 96·96 + 96·192 + 3·192²)
// = 1,326,132. Norms: 2 × 1,128 channels. FC: 192·2·2·512 + 512 and 512·200 + 200.
static void conv12_has_the_counted_parameters(void **state)
{
    (void)state;
    struct graph *g = create("conv12", NORM_BATCH, 64, 200);
    assert_int_equal(g->trainable, 1326132 + 2256 + 393728 + 102600);
    assert_int_equal(g->total - g->trainable, 2256);
    assert_int_equal(g->classes, 200);
    // input, 12 × (conv, norm, act), pool, fc1, act, fc2
    assert_int_equal(g->node_count, 1 + 36 + 4);
    assert_int_equal(g->param_count, 12 * 3 + 4 + 24);
    graph_destroy(&g);
    g = create("conv12", NORM_NONE, 64, 200);
    assert_int_equal(g->total, 1326132 + 1128 + 393728 + 102600);
    assert_int_equal(g->trainable, g->total);
    graph_destroy(&g);
    assert_null(g);
}

// 9 (3·12 + 12·24 + 24·48 + 48·96) = 54,756; 2 × 180 channels; 96·4·4·512 + 512; 512·200 + 200.
static void conv4_has_the_counted_parameters(void **state)
{
    (void)state;
    struct graph *g = create("conv4", NORM_BATCH, 64, 200);
    assert_int_equal(g->trainable, 54756 + 360 + 786944 + 102600);
    assert_int_equal(g->total - g->trainable, 360);
    graph_destroy(&g);
    // Quartered: 9 (3·3 + 3·6 + 6·12 + 12·24) = 3,483; 2·45; 24·16·128 + 128; 128·200 + 200.
    g = create("conv4/4", NORM_BATCH, 64, 200);
    assert_int_equal(g->trainable, 3483 + 90 + 49280 + 25800);
    graph_destroy(&g);
}

static void pictures_shrink_as_designed(void **state)
{
    (void)state;
    static const int channels[] = {12, 12, 24, 24, 48, 48, 96, 96, 192, 192, 192, 192};
    static const int sizes[] = {64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 4, 4};
    struct graph *g = create("conv12", NORM_BATCH, 64, 200);
    int layer = 0;
    for (int i = 0; i < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        assert_int_equal(n->input, i - 1);
        if (n->kind == NODE_CONV) {
            assert_int_equal(n->channels, channels[layer]);
            assert_int_equal(n->height, sizes[layer]);
            assert_int_equal(n->width, sizes[layer]);
            assert_false(n->has_bias);
            layer++;
        } else if (n->kind == NODE_AVGPOOL) {
            assert_int_equal(n->height, 2);
        }
    }
    assert_int_equal(layer, 12);
    assert_true(graph_flops(g) == 99196928.0);
    graph_destroy(&g);
    g = create("conv4", NORM_NONE, 64, 10);
    const struct node *pool = &g->nodes[9];
    assert_int_equal(pool->kind, NODE_AVGPOOL);
    assert_int_equal(pool->channels * pool->height * pool->width, 96 * 4 * 4);
    assert_true(g->nodes[1].has_bias);
    graph_destroy(&g);
}

static void parameters_tile_the_arena(void **state)
{
    (void)state;
    struct graph *g = create("conv12", NORM_BATCH, 64, 200);
    size_t next = 0;
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        bool statistic = p->role == STAT_MEAN || p->role == STAT_VARIANCE;
        assert_int_equal(p->offset, next);
        assert_int_equal(statistic, p->offset >= g->trainable);
        assert_int_equal(p->decay, p->role == PARAM_WEIGHT);
        next += p->count;
    }
    assert_int_equal(next, g->total);
    const struct param *w = param_named(g, "conv3.weight");
    assert_int_equal(w->dims[0], 24);
    assert_int_equal(w->dims[1], 12);
    assert_int_equal(w->fan_in, 12 * 9);
    assert_int_equal(w->fan_out, 24 * 9);
    assert_int_equal(param_named(g, "fc1.weight")->fan_in, 768);
    assert_int_equal(param_named(g, "norm12.running_var")->offset, g->total - 192);
    graph_destroy(&g);
}

static int refused(const char *arch, int size)
{
    struct graph *g = NULL;
    struct graph_options options = {.channels = 3, .height = size, .width = size, .classes = 2};
    int rc = graph_create(&g, arch, &options);
    assert_null(g);
    return rc;
}

static void what_cannot_be_built_is_refused(void **state)
{
    (void)state;
    static const char *const unknown[] = {"conv",     "conv13",    "conv12/",   "conv12/5",
                                          "conv12/1", "conv12/4x", "conv12/-4", ""};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_int_equal(refused(unknown[i], 64), RETORT_USAGE);
    assert_int_equal(refused("conv12", 16), RETORT_USAGE); // 1 × 1 is left for the 2 × 2 pool
    assert_int_equal(refused("conv4", 8), RETORT_USAGE);
    struct graph *g = create("conv12", NORM_BATCH, 17, 2);
    graph_destroy(&g);
}

static void check_deviation(const float *w, const struct param *p, double expected)
{
    double sum = 0.0, squares = 0.0, n = (double)p->count;
    for (size_t i = 0; i < p->count; i++) {
        sum += (double)w[p->offset + i];
        squares += (double)w[p->offset + i] * (double)w[p->offset + i];
    }
    // Five standard errors of a mean and of a deviation.
    assert_true(fabs(sum / n) < 5.0 * expected / sqrt(n));
    assert_true(fabs(sqrt(squares / n) / expected - 1.0) < 5.0 / sqrt(2.0 * n));
}

static void weights_have_their_deviation(void **state)
{
    (void)state;
    struct graph *g = create("conv12", NORM_BATCH, 64, 200);
    float *w = malloc(g->total * sizeof(*w));
    assert_non_null(w);
    const struct param *conv = param_named(g, "conv9.weight"), *fc = param_named(g, "fc1.weight");
    graph_init_weights(g, INIT_XAVIER_NORMAL, 1, w);
    check_deviation(w, conv, sqrt(2.0 / (96 * 9 + 192 * 9)));
    check_deviation(w, fc, sqrt(2.0 / (768 + 512)));
    graph_init_weights(g, INIT_KAIMING_NORMAL, 1, w);
    check_deviation(w, conv, sqrt(2.0 / (96 * 9)));
    check_deviation(w, fc, sqrt(2.0 / 768));
    graph_init_weights(g, INIT_FAN_IN_UNIFORM, 1, w);
    check_deviation(w, conv, sqrt(1.0 / (3 * 96 * 9)));
    check_deviation(w, fc, sqrt(1.0 / (3 * 768)));
    for (size_t i = 0; i < fc->count; i++)
        assert_true(fabsf(w[fc->offset + i]) < sqrtf(1.0f / 768));
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        float expected = p->role == PARAM_GAMMA || p->role == STAT_VARIANCE ? 1.0f : 0.0f;
        for (size_t k = 0; k < p->count && p->role != PARAM_WEIGHT; k++)
            assert_true(w[p->offset + k] == expected);
    }
    free(w);
    graph_destroy(&g);
}

static void weights_follow_from_the_seed_and_the_layer(void **state)
{
    (void)state;
    struct graph *with = create("conv4", NORM_BATCH, 32, 7),
                 *without = create("conv4", NORM_NONE, 32, 7);
    float *a = malloc(with->total * sizeof(*a)), *b = malloc(without->total * sizeof(*b));
    assert_non_null(a);
    assert_non_null(b);
    graph_init_weights(with, INIT_XAVIER_NORMAL, 3, a);
    graph_init_weights(without, INIT_XAVIER_NORMAL, 3, b);
    const struct param *p = param_named(with, "conv4.weight"),
                       *q = param_named(without, "conv4.weight");
    const struct param *other = param_named(with, "conv3.weight");
    assert_memory_equal(a + p->offset, b + q->offset, p->count * sizeof(*a));
    assert_memory_not_equal(a + p->offset, a + other->offset, 16 * sizeof(*a));
    // The numbers are part of what a seed means: conv4 is layer 3 (from 0), and weight 6 is the
    // third of the second draw's four.
    struct random_block r = random_draw(3, RANDOM_INIT, 3, 1);
    double normal[2];
    random_normal_pair(r.v[2], r.v[3], normal);
    assert_true(a[p->offset + 6] == (float)(sqrt(2.0 / (48 * 9 + 96 * 9)) * normal[0]));
    graph_init_weights(without, INIT_XAVIER_NORMAL, 4, b);
    assert_memory_not_equal(a + p->offset, b + q->offset, 16 * sizeof(*a));
    free(a);
    free(b);
    graph_destroy(&with);
    graph_destroy(&without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv12_has_the_counted_parameters),
        cmocka_unit_test(conv4_has_the_counted_parameters),
        cmocka_unit_test(pictures_shrink_as_designed),
        cmocka_unit_test(parameters_tile_the_arena),
        cmocka_unit_test(what_cannot_be_built_is_refused),
        cmocka_unit_test(weights_have_their_deviation),
        cmocka_unit_test(weights_follow_from_the_seed_and_the_layer),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
