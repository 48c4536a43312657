#include "worker/eval_checkpoint.h"

#include "base/error.h"
#include "base/log.h"
#include "worker/evaluate.h"
#include "worker/kept_logits.h"
#include "worker/network_file.h"
#include "worker/pictures.h"
#include "worker/plan.h"

static const double TIMEOUT_S = 120; // of a wait between GPUs

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

static int open_engine(struct rank *r, const struct eval_request *q, int64_t trained)
{
    const struct engine_options options = {.device = q->device,
                                           .threads = q->threads,
                                           .local_rank = comm_local_rank(r->comm),
                                           .precision = device_precision(q->device, trained),
                                           .deterministic = true};
    return engine_open(&r->engine, &options);
}

// The network, and the engine that its precision asks for.
static int open_rank(struct rank *r, struct network_file *file, const struct eval_request *q)
{
    int rc = RETORT_OK;
    TRY(rank_open_dataset(r, q->data));
    TRY_IN_TURN(r, network_file_read(file, q->checkpoint, &r->dataset));
    TRY_IN_TURN(r, open_engine(r, q, file->precision));
    TRY(rank_agree(r, device_connect(&r->gpus, r->comm, r->engine, q->device, TIMEOUT_S)));
    TRY(rank_agree(r, pictures_open(&r->val, r, q->split, false)));
    file->plan = plan_of_state(file->checkpoint.state, r->engine);
    TRY(plan_complete(&file->plan, r, file->graph, DATASET_BLOCK));
fail:
    return rc;
}

int eval_checkpoint(struct comm *comm, const struct eval_request *request, bool *agreed)
{
    struct rank rank = {.comm = comm, .dataset = {.file = {.id = -1}}};
    struct network_file file = {0};
    struct evaluator v = {0};
    struct kept_logits kept = {0};
    struct evaluation result;
    const bool keeps = request->logits[0] != '\0';
    int rc = RETORT_OK;
    TRY(open_rank(&rank, &file, request));
    TRY_IN_TURN(&rank, evaluator_open(&v, rank.engine, &file, request->ema, request->checkpoint));
    if (keeps)
        TRY(kept_logits_open(&kept, &rank, request->logits, &file, request->split, request->ema));
    TRY(evaluate(&result, &rank, rank.val, v.network, v.input, v.arena, keeps ? &kept : NULL));
    if (keeps)
        TRY(kept_logits_write(&kept, &rank));
    if (rank_is_first(&rank))
        print_result(request, &result);
fail:
    *agreed = rank.agreed;
    kept_logits_close(&kept);
    evaluator_close(&v, rank.engine);
    network_file_free(&file);
    rank_close(&rank, rc);
    return rc;
}
