// The training step: micro-batches of this rank in the order of the tree, the sum over ranks, the
// update. Reads top to bottom.

#include <math.h>

#include "base/arith/optimizer.h"
#include "base/error.h"
#include "worker/schedule.h"
#include "worker/trainer.h"
#include "worker/views.h"

static int load_pictures(struct trainer *t, int64_t epoch, int64_t first, int64_t last)
{
    struct picture_batch batch = {
        .pixels = shard_pixels(t->rank->train),
        .slot = t->slot,
        .sample_id = t->sample_id,
        .count = (int)(last - first),
        .augment = (enum augment_kind)t->rank->recipe.data.augment,
        .seed = t->stage == STAGE_TEACHER ? (uint64_t)t->rank->recipe.run.seed : t->rank->view_seed,
    };
    stage_view(&t->rank->recipe, t->stage, epoch, &batch.domain, &batch.view);
    int rc = shard_slots(t->rank->train, first, last, t->sample_id, t->slot);
    return rc ? rc : input_load(t->input, &batch, NULL);
}

// gradients = those of micro-batch m.
static int leaf_gradients(struct trainer *t, int64_t epoch, int64_t step, int64_t m,
                          void *gradients)
{
    struct engine *e = t->rank->engine;
    int64_t first, last;
    sampler_microbatch(&t->sampler, step, m, &first, &last);
    if (first == last) // more parts than samples in the last batch
        return engine_zero(e, gradients, t->graph->total * real_bytes(engine_real(e)));
    struct loss_targets targets = {
        .labels = t->labels,
        .teacher = t->views ? views_current(t->views) : NULL,
        .sample_id = t->sample_id,
        .count = (int)(last - first),
    };
    int rc = RETORT_OK;
    TRY(load_pictures(t, epoch, first, last));
    TRY(network_forward(t->network, t->input, FORWARD_TRAIN));
    TRY(network_loss(t->network, &targets, &t->loss, t->scalars, t->sums));
    TRY(network_backward(t->network, gradients, t->scalars, NULL));
fail:
    return rc;
}

// gradients = the sum over micro-batches [a, b), by the fixed binary tree.
static int tree_gradients(struct trainer *t, int64_t epoch, int64_t step, int64_t a, int64_t b,
                          void *gradients, int depth)
{
    if (b - a == 1)
        return leaf_gradients(t, epoch, step, a, gradients);
    int rc = RETORT_OK;
    int64_t middle = comm_tree_split(a, b);
    TRY(tree_gradients(t, epoch, step, a, middle, gradients, depth + 1));
    TRY(tree_gradients(t, epoch, step, middle, b, t->tree[depth], depth + 1));
    TRY(engine_add(t->rank->engine, gradients, t->tree[depth], t->graph->total,
                   engine_real(t->rank->engine)));
fail:
    return rc;
}

static int set_scalars(struct trainer *t, int64_t step)
{
    const struct network_recipe *r = t->recipe;
    double update = (double)t->step + 1.0;
    struct step_scalars now = {
        .lr = schedule_lr(r, t->step, sampler_steps(&t->sampler)),
        .ema_decay = ema_decay_at(r->ema.decay, (double)t->step),
        .bias1 = 1.0 - pow(r->optimizer.beta1, update),
        .bias2 = 1.0 - pow(r->optimizer.beta2, update),
        .inverse_batch = 1.0 / (double)sampler_step_size(&t->sampler, step),
    };
    return engine_upload(t->rank->engine, t->scalars, &now, sizeof now);
}

static int update_weights(struct trainer *t)
{
    const struct network_recipe *r = t->recipe;
    struct optimizer_spec spec = {
        .kind = r->optimizer.kind,
        .momentum = r->optimizer.momentum,
        .weight_decay = r->optimizer.weight_decay,
        .beta1 = r->optimizer.beta1,
        .beta2 = r->optimizer.beta2,
        .epsilon = r->optimizer.epsilon,
        .nesterov = r->optimizer.nesterov,
    };
    int rc = engine_update(t->rank->engine, t->graph, &t->arenas, &spec, t->scalars);
    return rc ? rc : network_set_weights(t->network, t->arenas.weights);
}

// Adds the step's sums to the epoch's, and looks whether the loss is a number.
static int collect_sums(struct trainer *t, int64_t step)
{
    double now[LOSS_SUMS];
    int rc = engine_download(t->rank->engine, now, t->sums, sizeof now);
    for (int i = 0; i < LOSS_SUMS; i++)
        t->epoch.sums[i] += now[i];
    t->epoch.samples += (double)sampler_step_size(&t->sampler, step);
    t->finite = isfinite(now[LOSS_TOTAL]) != 0;
    return rc;
}

int trainer_step(struct trainer *t, int64_t epoch, int64_t step)
{
    struct rank *rank = t->rank;
    int64_t first, last;
    int rc = RETORT_OK;
    watchdog_step(rank->watchdog, t->step);
    sampler_own(&t->sampler, &first, &last);
    TRY(set_scalars(t, step));
    TRY(engine_zero(rank->engine, t->sums, LOSS_SUMS * sizeof(double)));
    TRY(tree_gradients(t, epoch, step, first, last, t->arenas.gradients, 0));
    TRY(comm_allreduce_sum(rank->comm, t->arenas.gradients, t->graph->total,
                           engine_real(rank->engine), rank->recipe.run.deterministic));
    TRY(collect_sums(t, step));
    TRY(update_weights(t));
    t->step++;
fail:
    return rc;
}
