// Whether cuDNN runs what the CUDA engine asks for: every distinct product of the networks, in f32
// and bf16, is planned for described GPUs by the engine's own rules. No GPU is needed.
//
//   test_cudnn_plans DEVICE.json… [BATCH…]

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "models/cuda/dnn_desc.h"
#include "models/cuda/network.h"
#include "tests/models/support.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { ARGUMENTS = 8, PRODUCTS = 256 };
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

// Whether one of cuDNN's offers may be taken and is accepted.
static bool planned(const struct dnn_target *target, const struct cuda_engine *e,
                    const struct dnn_product *p)
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
        dnn_plan_destroy(&plan);
    }
    free(offers);
    dnn_desc_destroy(&graph);
    return good;
}

// Each shape is asked for once on a device.
struct asked {
    struct dnn_product products[PRODUCTS];
    int count;
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

static void check_network(const struct dnn_target *target, struct asked *asked, const char *arch,
                          enum element_type type, int batch)
{
    static const char *const DIRECTION_NAMES[] = {"out", "in", "weights"};
    struct graph_options options = {3, 64, 64, 200, NORM_BATCH, ACTIVATION_RELU};
    struct cuda_engine e = {.type = type, .deterministic = true};
    struct cuda_network n = {.engine = &e, .training = true, .max_batch = batch};
    struct graph *g;
    OK(graph_create(&g, arch, &options));
    n.graph = g;
    OK(cuda_layers_create(&n));
    for (int i = 0; i < n.layer_count; i++) {
        struct product p;
        memset(&p, 0, sizeof(p)); // padding too: shapes are compared
        if (n.layers[i].ops != &CUDA_PRODUCT_LAYER)
            continue;
        cuda_product_shapes(&p, &n, &n.layers[i]);
        for (int d = i == 0 ? TO_WEIGHTS : TO_OUTPUT; d < DIRECTIONS; d++)
            if (first_time(asked, &p.shape[d]) && !planned(target, &e, &p.shape[d]))
                fail_msg("%s %s %s: %s, batch %d: cuDNN has no plan: %s", arch,
                         n.layers[i].node->name, DIRECTION_NAMES[d],
                         type == ELEMENT_BF16 ? "bf16" : "f32", batch, dnn_last_error());
    }
    free(n.layers);
    graph_destroy(&g);
}

static void every_product_is_planned(void **state)
{
    (void)state;
    for (int d = 0; d < device_count; d++) {
        static struct asked asked;
        const struct dnn_target target = {.device = described(devices[d])};
        memset(&asked, 0, sizeof(asked));
        for (int b = 0; b < batch_count; b++)
            for (int type = ELEMENT_F32; type <= ELEMENT_BF16; type++) {
                check_network(&target, &asked, "conv12", (enum element_type)type, batches[b]);
                check_network(&target, &asked, "conv4", (enum element_type)type, batches[b]);
            }
        printf("%s: %d products\n", devices[d], asked.count);
        assert_true(asked.count >= 70 * batch_count);
        dnn_desc device = target.device;
        dnn_desc_destroy(&device);
    }
}

// What no GPU has is refused: the check can fail.
static void nonsense_is_refused(void **state)
{
    (void)state;
    const struct dnn_target target = {.device = described(devices[0])};
    const struct cuda_engine e = {.type = ELEMENT_BF16, .deterministic = true};
    struct dnn_tensor x = dnn_pictures(CUDNN_DATA_BFLOAT16, 50, 16, 8, 8);
    struct dnn_tensor dw = dnn_pictures(CUDNN_DATA_FLOAT, 16, 16, 3, 3);
    struct dnn_product p = {DNN_CONV_WEIGHTS, {x, x, dw}, 1, 1}; // f32 from bf16
    dnn_desc device = target.device;
    assert_false(planned(&target, &e, &p));
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
        cmocka_unit_test(every_product_is_planned),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests_name("cuDNN's plans", tests, NULL, NULL);
}
