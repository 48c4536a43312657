// The training step: micro-batches of this rank in the order of the tree, the sum over ranks, the
// update. Reads top to bottom.

#include <math.h>

#include "base/arith/optimizer.h"
#include "base/error.h"
#include "worker/schedule.h"
#include "worker/trainer.h"
#include "worker/views.h"

// The step whose samples are asked for.
struct place {
    const struct trainer *t;
    int64_t step;
};

static int find_samples(void *context, int k, int64_t *sample_id, int64_t *slot, int *count)
{
    const struct place *at = context;
    int64_t own, unused, first, last;
    sampler_own(&at->t->sampler, &own, &unused);
    sampler_microbatch(&at->t->sampler, at->step, own + k, &first, &last);
    *count = (int)(last - first); // 0: more parts than samples in the last batch
    return shard_slots(at->t->rank->train, first, last, sample_id, slot);
}

// gradients = the sum over this rank's micro-batches.
static int own_gradients(struct trainer *t, int64_t epoch, int64_t step)
{
    const struct rank *rank = t->rank;
    struct place at = {t, step};
    struct microbatch_step s = {
        .pictures = {.pixels = shard_pixels(rank->train),
                     .augment = (enum augment_kind)rank->recipe.data.augment,
                     .seed = t->stage == STAGE_TEACHER ? (uint64_t)rank->recipe.run.seed
                                                       : rank->view_seed},
        .targets = {.labels = t->labels, .teacher = t->views ? views_current(t->views) : NULL},
        .loss = t->loss,
        .scalars = t->scalars,
        .sums = t->sums,
        .samples = find_samples,
        .context = &at,
    };
    stage_view(&rank->recipe, t->stage, epoch, &s.pictures.domain, &s.pictures.view);
    return microbatches_gradients(&t->microbatches, &s);
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
    double now[LOSS_SUMS] = {0};
    int rc = comm_wait(t->rank->comm); // for peers too, whom a download would wait for in silence
    if (rc == RETORT_OK)
        rc = engine_download(t->rank->engine, now, t->sums, sizeof now);
    for (int i = 0; i < LOSS_SUMS; i++)
        t->epoch.sums[i] += now[i];
    t->epoch.samples += (double)sampler_step_size(&t->sampler, step);
    t->finite = isfinite(now[LOSS_TOTAL]) != 0;
    return rc;
}

int trainer_step(struct trainer *t, int64_t epoch, int64_t step)
{
    struct rank *rank = t->rank;
    int rc = RETORT_OK;
    watchdog_step(rank->watchdog, t->step);
    TRY(set_scalars(t, step));
    TRY(engine_zero(rank->engine, t->sums, LOSS_SUMS * sizeof(double)));
    TRY(own_gradients(t, epoch, step));
    TRY(comm_allreduce_sum(rank->comm, t->arenas.gradients, t->graph->total,
                           engine_real(rank->engine), rank->recipe.run.deterministic));
    TRY(collect_sums(t, step));
    TRY(update_weights(t));
    t->step++;
fail:
    return rc;
}
