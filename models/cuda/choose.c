// Which of cuDNN's plans a product runs by: the fastest, among those that may be taken. And whether
// a convolution adds up its result for a BatchNorm: where that takes less time than the plain
// convolution and a pass of ours.

#include <stdlib.h>

#include "models/cuda/network.h"

// Of each mode's offers the most promising that may be taken: each costs a compilation.
enum { TIMED_RUNS = 5, TIMED_OFFERS = 6 };
static const int64_t WORKSPACE_BYTES_MAX = (int64_t)128 << 20;

// Engines whose results we do not want: sums in a narrow type ever, other shortcuts for f32, its
// tensor cores unless tf32 (10 bits) was asked for, bits that differ from run to run where they
// must not.
bool cuda_engine_allowed(const struct cuda_engine *e, uint32_t notes)
{
    uint32_t unwanted = 1U << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (e->type == ELEMENT_F32)
        unwanted |= 1U << CUDNN_NUMERICAL_NOTE_FFT | 1U << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    if (e->type == ELEMENT_F32 && !e->tf32)
        unwanted |=
            1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1U << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    if (e->deterministic)
        unwanted |= 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    return (notes & unwanted) == 0;
}

bool cuda_workspace_allowed(int64_t bytes)
{
    return bytes <= WORKSPACE_BYTES_MAX;
}

// Room for the largest workspace of the plans so far.
static int reserve_workspace(struct cuda_network *n, int64_t bytes)
{
    if (bytes <= (int64_t)n->workspace_bytes)
        return RETORT_OK;
    (void)cudaFree(n->workspace);
    n->memory_bytes -= n->workspace_bytes;
    n->workspace_bytes = 0;
    int rc = cuda_memory(n->engine, (size_t)bytes, &n->workspace);
    if (rc == RETORT_OK) {
        n->workspace_bytes = (size_t)bytes;
        n->memory_bytes += (size_t)bytes;
    }
    return rc;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// The plain way to a result and its sums.
static int run_apart(struct cuda_network *n, struct cuda_layer *l, enum direction direction)
{
    bool output = direction == TO_OUTPUT_WITH_SUMS;
    int rc = RETORT_OK;
    TRY(cuda_product_run(n, l, output ? TO_OUTPUT : TO_INPUT));
    TRY(output ? cuda_norm_moments(n, l + 1) : cuda_norm_gradient_moments(n, l - 1));
fail:
    return rc;
}

typedef int timed_work(struct cuda_network *n, struct cuda_layer *l, enum direction direction);

// The median of some runs after one to warm up.
static int time_runs(timed_work *run, struct cuda_network *n, struct cuda_layer *l,
                     enum direction direction, float *milliseconds)
{
    cudaEvent_t begin = NULL, end = NULL;
    float runs[TIMED_RUNS];
    int rc = RETORT_OK;
    TRY_CUDA(cudaEventCreate(&begin));
    TRY_CUDA(cudaEventCreate(&end));
    TRY(run(n, l, direction));
    for (int i = 0; i < TIMED_RUNS; i++) {
        TRY_CUDA(cudaEventRecord(begin, n->engine->stream));
        TRY(run(n, l, direction));
        TRY_CUDA(cudaEventRecord(end, n->engine->stream));
        TRY_CUDA(cudaEventSynchronize(end));
        TRY_CUDA(cudaEventElapsedTime(&runs[i], begin, end));
    }
    qsort(runs, TIMED_RUNS, sizeof(*runs), compare);
    *milliseconds = runs[TIMED_RUNS / 2];
fail:
    if (begin != NULL)
        (void)cudaEventDestroy(begin);
    if (end != NULL)
        (void)cudaEventDestroy(end);
    return rc;
}

// Makes the offer's plan in p->plan when it may be taken and cuDNN accepts it.
static int try_offer(struct cuda_network *n, struct product *p, enum direction direction,
                     dnn_desc graph, const struct dnn_offer *offer, bool *good)
{
    const struct dnn_target target = {.handle = n->engine->dnn};
    uint32_t notes;
    int rc = RETORT_OK;
    *good = false;
    if (!dnn_engine_notes(&target, graph, offer->engine, &notes) ||
        !cuda_engine_allowed(n->engine, notes))
        return rc;
    TRY(dnn_plan_create(&p->plan[direction], good, &target, graph, offer));
    if (*good && !cuda_workspace_allowed(p->plan[direction].workspace_bytes)) {
        dnn_plan_destroy(&p->plan[direction]);
        *good = false;
    }
    if (*good)
        TRY(reserve_workspace(n, p->plan[direction].workspace_bytes));
fail:
    return rc;
}

// The best of the offers so far: its plan is set aside while others are tried.
struct best {
    struct dnn_plan plan;
    struct dnn_offer offer;
    float milliseconds;
    bool found;
};

static int weigh_offer(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                       const struct dnn_offer *offer, bool timed, struct best *best)
{
    struct product *p = l->product;
    float milliseconds = 0.0F;
    int rc = RETORT_OK;
    if (timed)
        TRY(time_runs(cuda_product_run, n, l, direction, &milliseconds));
    if (!best->found || milliseconds < best->milliseconds) {
        dnn_plan_destroy(&best->plan);
        *best = (struct best){p->plan[direction], *offer, milliseconds, true};
        p->plan[direction] = (struct dnn_plan){0};
    }
fail:
    dnn_plan_destroy(&p->plan[direction]);
    return rc;
}

// Drops a plan with sums that gains nothing.
static int weigh_sums(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                      struct best *best)
{
    float apart = 0.0F;
    int rc = RETORT_OK;
    TRY(time_runs(run_apart, n, l, direction, &apart));
    if (best->milliseconds >= apart) {
        dnn_plan_destroy(&best->plan);
        best->found = false;
    }
fail:
    return rc;
}

// At stride 2 each of cuDNN's engines refuses to add up a data gradient, seconds apiece (seen with
// 9.19); and a cuDNN older than what this was compiled with may not know how to be asked.
bool cuda_product_offered(const struct cuda_layer *l, enum direction direction)
{
    return direction != TO_INPUT_WITH_SUMS ||
           (l->node->stride == 1 && cudnnGetVersion() >= CUDNN_VERSION);
}

int cuda_product_choose(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                        bool timed)
{
    const struct dnn_target target = {.handle = n->engine->dnn};
    struct product *p = l->product;
    struct dnn_offer *offers = NULL;
    struct best best = {0};
    dnn_desc graph = NULL;
    bool good;
    int count = 0, tried[DNN_MODES] = {0}, rc = RETORT_OK;
    TRY(dnn_graph_create(&graph, &target, &p->shape[direction]));
    TRY(dnn_offers(&offers, &count, &target, graph));
    for (int i = 0; i < count && (timed || !best.found); i++) {
        if (tried[offers[i].mode] == TIMED_OFFERS)
            continue;
        TRY(try_offer(n, p, direction, graph, &offers[i], &good));
        if (good)
            TRY(weigh_offer(n, l, direction, &offers[i], timed, &best));
        tried[offers[i].mode] += good;
    }
    if (best.found && timed && cuda_has_sums(direction))
        TRY(weigh_sums(n, l, direction, &best));
    TRY_ELSE(best.found || cuda_has_sums(direction), RETORT_FAILED,
             "cuDNN has no algorithm for %s of %s with a batch of %d", l->node->name,
             n->graph->arch, n->max_batch);
    p->plan[direction] = best.plan;
    p->offer[direction] = best.offer;
    best.plan = (struct dnn_plan){0};
fail:
    dnn_plan_destroy(&best.plan);
    dnn_desc_destroy(&graph);
    free(offers);
    return rc;
}

int cuda_product_follow(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                        bool *accepted)
{
    const struct dnn_target target = {.handle = n->engine->dnn};
    struct product *p = l->product;
    dnn_desc graph = NULL;
    int rc = RETORT_OK;
    *accepted = false;
    TRY(dnn_graph_create(&graph, &target, &p->shape[direction]));
    TRY(try_offer(n, p, direction, graph, &p->offer[direction], accepted));
fail:
    dnn_desc_destroy(&graph);
    return rc;
}
