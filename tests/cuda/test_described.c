// Whether cuDNN runs what the CUDA engine asks for: every distinct product of the networks, in
// every precision, in training by micro-batches of BATCH and in evaluation, is planned for
// described GPUs by the engine's own rules. No GPU is needed.
//
//   test_cudnn_plans DEVICE.json… [BATCH…]     (default: 50)

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/cuda/dnn_desc.h"
#include "models/cuda/network.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { ARGUMENTS = 8, PRODUCTS = 256, EVALUATION = 128, NETWORKS = 2 };
static const char *const ARCHS[NETWORKS] = {"conv12", "conv4"};
static const struct cuda_engine PRECISIONS[] = {
    {.type = ELEMENT_F32, .deterministic = true},
    {.type = ELEMENT_F32, .tf32 = true, .deterministic = true},
    {.type = ELEMENT_BF16, .deterministic = true},
    {.type = ELEMENT_F16, .deterministic = true},
};
enum { PRECISION_COUNT = sizeof(PRECISIONS) / sizeof(PRECISIONS[0]) };
static const char *devices[ARGUMENTS];
static int batches[ARGUMENTS] = {50}, device_count, batch_count;

static dnn_desc described(const char *path)
{
    dnn_desc d;
    char *text = NULL;
    size_t bytes;
    OK(file_read(path, 1 << 16, &text, &bytes));
    OK(dnn_desc_create(&d, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR));
    OK(dnn_set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)bytes,
               text));
    OK(dnn_finalize(d));
    free(text);
    return d;
}

// Whether one of cuDNN's offers may be taken and is accepted; *taken are its numerical notes.
static bool planned(const struct dnn_target *target, const struct cuda_engine *e,
                    const struct dnn_product *p, uint32_t *taken)
{
    struct dnn_offer *offers;
    dnn_desc graph;
    bool good = false;
    int count;
    OK(dnn_graph_create(&graph, target, p));
    OK(dnn_offers(&offers, &count, target, graph));
    for (int i = 0; i < count && !good; i++) {
        struct dnn_plan plan;
        uint32_t notes;
        if (!dnn_engine_notes(target, graph, offers[i].engine, &notes) ||
            !cuda_engine_allowed(e, notes))
            continue;
        OK(dnn_plan_create(&plan, &good, target, graph, &offers[i]));
        good = good && cuda_workspace_allowed(plan.workspace_bytes);
        *taken = notes;
        dnn_plan_destroy(&plan);
    }
    free(offers);
    dnn_desc_destroy(&graph);
    return good;
}

// Each shape is asked for once in a precision on a device.
struct asked {
    struct dnn_product products[PRODUCTS];
    int count, by_tensor_cores, with[DIRECTIONS];
};

static bool first_time(struct asked *a, const struct dnn_product *p)
{
    for (int i = 0; i < a->count; i++)
        if (memcmp(&a->products[i], p, sizeof(*p)) == 0)
            return false;
    assert_true(a->count < PRODUCTS);
    a->products[a->count++] = *p;
    return true;
}

static bool only_full(const struct cuda_engine *e)
{
    return e->type == ELEMENT_F32 && !e->tf32;
}

static bool is_asked(const struct cuda_network *n, const struct cuda_layer *l, enum direction d)
{
    if (cuda_has_sums(d))
        return cuda_product_has(n, l, d) && cuda_product_offered(l, d);
    return d == TO_OUTPUT || (n->training && (d == TO_WEIGHTS || l > n->layers));
}

// Sums are added up on tensor cores alone: f32 goes on without.
static bool may_lack(const struct cuda_network *n, enum direction d)
{
    return cuda_has_sums(d) && only_full(n->engine);
}

static void check_layer(const struct dnn_target *target, struct asked *asked,
                        const struct cuda_network *n, const struct cuda_layer *l)
{
    static const char *const DIRECTION_NAMES[] = {"out", "in", "weights", "sums", "insums"};
    struct product p;
    uint32_t notes;
    memset(&p, 0, sizeof(p)); // padding too: shapes are compared
    cuda_product_shapes(&p, n, l);
    for (int d = 0; d < DIRECTIONS; d++) {
        if (!is_asked(n, l, d) || !first_time(asked, &p.shape[d]))
            continue;
        bool there = planned(target, n->engine, &p.shape[d], &notes);
        asked->with[d] += there;
        if (!there && may_lack(n, d))
            continue;
        if (!there)
            fail_msg("%s %s %s: %s, batch %d: cuDNN has no plan: %s", n->graph->arch, l->node->name,
                     DIRECTION_NAMES[d], cuda_precision(n->engine), n->max_batch, dnn_last_error());
        asked->by_tensor_cores += (notes & 1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE) != 0;
    }
}

static void check_network(const struct dnn_target *target, struct asked *asked,
                          const struct cuda_engine *precision, const char *arch, int batch)
{
    const struct graph_options options = {3, 64, 64, 200, NORM_BATCH, ACTIVATION_RELU};
    struct cuda_engine e = *precision;
    struct cuda_network n = {.engine = &e, .training = batch != EVALUATION, .max_batch = batch};
    struct graph *g;
    OK(graph_create(&g, arch, &options));
    n.graph = g;
    OK(cuda_layers_create(&n));
    for (int i = 0; i < n.layer_count; i++)
        if (n.layers[i].ops == &CUDA_PRODUCT_LAYER)
            check_layer(target, asked, &n, &n.layers[i]);
    free(n.layers);
    graph_destroy(&g);
}

// Of one device in one precision.
static void check_products(const struct dnn_target *target, struct asked *asked,
                           const struct cuda_engine *precision)
{
    memset(asked, 0, sizeof(*asked));
    for (int k = 0; k < NETWORKS; k++) {
        for (int b = 0; b < batch_count; b++)
            check_network(target, asked, precision, ARCHS[k], batches[b]);
        check_network(target, asked, precision, ARCHS[k], EVALUATION);
    }
}

static void every_product_is_planned(void **state)
{
    (void)state;
    for (int d = 0; d < device_count; d++) {
        static struct asked asked;
        dnn_desc device = described(devices[d]);
        const struct dnn_target target = {.device = device};
        for (int k = 0; k < PRECISION_COUNT; k++) {
            const struct cuda_engine *e = &PRECISIONS[k];
            check_products(&target, &asked, e);
            printf("%s, %s: %d products, %d by tensor cores; with sums %d out, %d in\n", devices[d],
                   cuda_precision(e), asked.count, asked.by_tensor_cores,
                   asked.with[TO_OUTPUT_WITH_SUMS], asked.with[TO_INPUT_WITH_SUMS]);
            assert_true(asked.count >= 45 * batch_count + 10);
            assert_true(only_full(e) || asked.with[TO_OUTPUT_WITH_SUMS] >= 10 * batch_count);
            assert_true(only_full(e) || asked.with[TO_INPUT_WITH_SUMS] >= 5 * batch_count);
            if (only_full(e))
                assert_int_equal(asked.by_tensor_cores, 0);
            else
                assert_true(asked.by_tensor_cores > asked.count / 2);
        }
        dnn_desc_destroy(&device);
    }
}

// f32 keeps its digits; who asks for tf32 gives some of them away, and no more.
static void what_f32_may_take(void **state)
{
    (void)state;
    const uint32_t tensor_cores =
        1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1U << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    const uint32_t narrow = 1U << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    const uint32_t chance = 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    for (int k = 0; k < PRECISION_COUNT; k++) {
        struct cuda_engine e = PRECISIONS[k];
        assert_true(cuda_engine_allowed(&e, 0));
        assert_int_equal(cuda_engine_allowed(&e, tensor_cores), e.tf32 || e.type != ELEMENT_F32);
        assert_false(cuda_engine_allowed(&e, narrow));
        assert_false(cuda_engine_allowed(&e, chance));
        e.deterministic = false;
        assert_true(cuda_engine_allowed(&e, chance));
    }
}

// What no GPU has is refused: the check can fail.
static void nonsense_is_refused(void **state)
{
    (void)state;
    const struct dnn_target target = {.device = described(devices[0])};
    const struct cuda_engine e = {.type = ELEMENT_BF16, .deterministic = true};
    uint32_t notes;
    struct dnn_tensor x = dnn_pictures(CUDNN_DATA_BFLOAT16, 50, 16, 8, 8);
    struct dnn_tensor dw = dnn_pictures(CUDNN_DATA_FLOAT, 16, 16, 3, 3);
    struct dnn_product p = {DNN_CONV_WEIGHTS, {x, x, dw}, 1, 1}; // f32 from bf16
    dnn_desc device = target.device;
    assert_false(planned(&target, &e, &p, &notes));
    dnn_desc_destroy(&device);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc && i < ARGUMENTS; i++)
        if (strstr(argv[i], ".json") != NULL)
            devices[device_count++] = argv[i];
        else
            batches[batch_count++] = atoi(argv[i]);
    if (batch_count == 0)
        batch_count = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_f32_may_take),
        cmocka_unit_test(every_product_is_planned),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("cuDNN's plans", tests, NULL, NULL);
}
