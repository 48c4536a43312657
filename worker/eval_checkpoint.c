#include "worker/eval_checkpoint.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/checkpoint.h"
#include "worker/evaluate.h"

struct evaluator {
    struct graph *graph;
    struct network *network;
    struct input *input;
    void *arena; // engine memory
};

// The recipe that trained it says what the network is; the checkpoint's own state, which one.
static int describe(const struct checkpoint *c, struct network_recipe *out)
{
    struct recipe trained;
    const char *stage_text = json_string_value(json_object_get(c->state, "stage"));
    enum stage stage;
    int rc = RETORT_OK;
    TRY(recipe_from_text(&trained, "the checkpoint's recipe", c->recipe));
    TRY(stage_parse(stage_text ? stage_text : "", &stage));
    *out = *recipe_network(&trained, stage);
fail:
    return rc;
}

static int load(struct evaluator *v, struct rank *rank, const struct eval_request *q)
{
    struct checkpoint c = {0};
    struct network_recipe recipe;
    struct picture_format format = {.height = rank->dataset.height, .width = rank->dataset.width};
    int rc = RETORT_OK;
    memcpy(format.mean, rank->dataset.mean, sizeof format.mean);
    memcpy(format.deviation, rank->dataset.deviation, sizeof format.deviation);
    TRY(checkpoint_read(&c, q->checkpoint, false));
    TRY(describe(&c, &recipe));
    TRY(trainer_graph(&v->graph, rank, &recipe));
    TRY_ELSE(c.total == v->graph->total && c.real == engine_real(rank->engine), RETORT_INPUT,
             "%s does not fit the classes or picture size of %s, or this engine", q->checkpoint,
             q->data);
    TRY_ELSE(!q->ema || c.ema, RETORT_INPUT, "%s has no EMA weights; use --weights raw",
             q->checkpoint);
    struct network_options options = {.max_batch = DATASET_BLOCK,
                                      .plan = json_string_value(json_object_get(c.state, "plan"))};
    size_t bytes = c.total * real_bytes(c.real);
    v->arena = engine_alloc(rank->engine, bytes);
    TRY_ELSE(v->arena, RETORT_MEMORY, "no memory for the weights");
    TRY(engine_upload(rank->engine, v->arena, q->ema ? c.ema : c.weights, bytes));
    TRY(network_create(&v->network, rank->engine, v->graph, &options));
    TRY(input_create(&v->input, rank->engine, &format, DATASET_BLOCK));
fail:
    checkpoint_free(&c);
    return rc;
}

static void unload(struct evaluator *v, struct rank *rank)
{
    network_destroy(&v->network);
    input_destroy(&v->input);
    engine_free(rank->engine, v->arena);
    graph_destroy(&v->graph);
}

static void print_result(const struct eval_request *q, const struct evaluation *e)
{
    if (q->as_json) {
        json_t *j = evaluation_json(e);
        json_object_set_new(j, "count", json_integer(e->count));
        json_object_set_new(j, "top1_count", json_integer(e->top1_count));
        json_object_set_new(j, "top5_count", json_integer(e->top5_count));
        json_object_set_new(j, "weights", json_string(q->ema ? "ema" : "raw"));
        json_object_set_new(j, "split", json_string(dataset_split_name(q->split)));
        char *text = json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9));
        log_info("%s", text ? text : "");
        free(text);
        json_decref(j);
        return;
    }
    log_info(
        "%s weights on %lld %s pictures: top-1 %.2f %% (%lld), top-5 %.2f %% (%lld), loss "
        "%.4f, %.0f images/s",
        q->ema ? "EMA" : "raw", (long long)e->count, dataset_split_name(q->split),
        100.0 * (double)e->top1_count / (double)e->count, (long long)e->top1_count,
        100.0 * (double)e->top5_count / (double)e->count, (long long)e->top5_count, e->loss,
        (double)e->count / e->seconds);
}

static int open_rank(struct rank *r, struct comm *comm, const struct eval_request *q)
{
    struct engine_options options = {
        .device = q->device,
        .threads = q->threads,
        .local_rank = comm_local_rank(comm),
        .precision = strcmp(q->device, "reference") == 0 ? PRECISION_F64 : PRECISION_F32,
        .deterministic = true};
    int rc = RETORT_OK;
    memset(r, 0, sizeof *r);
    r->comm = comm;
    r->dataset.file.id = -1;
    TRY_IN_TURN(r, engine_open(&r->engine, &options));
    TRY_IN_TURN(r, dataset_open(&r->dataset, q->data));
    TRY(rank_agree(r, shard_open(&r->val, comm, &r->dataset, q->split)));
fail:
    return rc;
}

int eval_checkpoint(struct comm *comm, const struct eval_request *request, bool *agreed)
{
    struct rank rank;
    struct evaluator v = {0};
    struct evaluation result;
    int rc = RETORT_OK;
    TRY(open_rank(&rank, comm, request));
    TRY_IN_TURN(&rank, load(&v, &rank, request));
    TRY(evaluate(&result, &rank, rank.val, v.network, v.input, v.arena));
    if (rank_is_first(&rank))
        print_result(request, &result);
fail:
    *agreed = rank.agreed;
    unload(&v, &rank);
    rank_close(&rank, rc);
    return rc;
}
