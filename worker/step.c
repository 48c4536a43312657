// The training step: micro-batches of this rank in the order of the tree and their sum over the
// ranks, the update. Reads top to bottom.
//
// First the host brings to the engine what is new in this step: scalars, samples. All else is
// queued, the same in every step of as many samples: so an engine may replay it (engine_record).

#include <math.h>
#include <xxhash.h>

#include "base/arith/optimizer.h"
#include "base/error.h"
#include "worker/own_range.h"
#include "worker/schedule.h"
#include "worker/trainer.h"
#include "worker/views.h"

// A step under way.
struct work {
    struct trainer *t;
    int64_t step;
    struct microbatch_step microbatches;
};

static int find_samples(void *context, int k, int64_t *sample_id, int64_t *slot, int *count)
{
    const struct work *w = context;
    int64_t own, unused, first, last;
    sampler_own(&w->t->sampler, &own, &unused);
    sampler_microbatch(&w->t->sampler, w->step, own + k, &first, &last);
    *count = (int)(last - first); // 0: more parts than samples in the last batch
    return shard_slots(w->t->rank->train, first, last, sample_id, slot);
}

static void describe(struct work *w, struct trainer *t, int64_t epoch, int64_t step)
{
    const struct rank *rank = t->rank;
    w->t = t;
    w->step = step;
    w->microbatches = (struct microbatch_step){
        .pictures = {.pixels = shard_pixels(rank->train),
                     .augment = (enum augment_kind)rank->recipe.data.augment,
                     .seed = t->stage == STAGE_TEACHER ? (uint64_t)rank->recipe.run.seed
                                                       : rank->view_seed},
        .targets = {.labels = t->labels, .teacher = t->views ? views_current(t->views) : NULL},
        .loss = t->loss,
        .scalars = t->scalars,
        .sums = t->sums,
        .samples = find_samples,
        .context = w,
    };
    stage_view(&rank->recipe, t->stage, epoch, &w->microbatches.pictures.domain,
               &w->microbatches.pictures.view);
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
    int rc = RETORT_OK;
    TRY(engine_update(t->rank->engine, t->graph, &t->arenas, &spec, t->scalars));
    TRY(own_range_share(t));
    TRY(network_set_weights(t->network, t->arenas.weights));
fail:
    return rc;
}

static size_t gradients_bytes(const struct trainer *t)
{
    return t->graph->total * real_bytes(engine_real(t->rank->engine));
}

// What the engine does in a step. Of what may differ between two steps it passes on nothing by
// value but the counts of samples, which follow from the step's: its arenas and buffers, loss and
// optimizer are the trainer's own, and stay.
static int queue_step(void *context)
{
    const struct work *w = context;
    struct trainer *t = w->t;
    int rc = RETORT_OK;
    TRY(engine_zero(t->rank->engine, t->sums, LOSS_SUMS * sizeof(double)));
    TRY(microbatches_gradients(&t->microbatches, &w->microbatches));
    TRY(update_weights(t));
fail:
    return rc;
}

// The counts of all ranks' samples: so all ranks have the same keys at the same steps, and capture
// and replay their collectives together. (With shuffle: shard, steps of as many samples may be cut
// into other shares.)
static struct record_key key_of(const struct work *w)
{
    const struct sampler *s = &w->t->sampler;
    uint64_t shares = 0;
    for (int r = 0; r < s->size; r++) {
        int64_t first, last;
        sampler_share(s, w->step, r, &first, &last);
        const uint64_t more[] = {shares, (uint64_t)(last - first)};
        shares = XXH3_64bits(more, sizeof more);
    }
    return (struct record_key){{(uint64_t)sampler_step_size(s, w->step), shares}};
}

// Ranks whose steps are graphs, and one whose steps are not, would do, but nobody could say how
// fast.
static bool on_all_ranks(void *context, bool captured)
{
    const struct work *w = context;
    return !comm_any(w->t->rank->comm, !captured);
}

static int run_step(struct work *w)
{
    struct trainer *t = w->t;
    const struct record_key key = key_of(w);
    const struct record_work work = {queue_step, on_all_ranks, w};
    if (!comm_capturable(t->rank->comm))
        return queue_step(w);
    comm_await(t->rank->comm, t->sharded ? "reduce-scatter" : "all-reduce", gradients_bytes(t));
    return engine_record(t->rank->engine, &t->recorded, &key, &work);
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
    struct work w;
    int rc = RETORT_OK;
    watchdog_step(t->rank->watchdog, t->step);
    describe(&w, t, epoch, step);
    TRY(set_scalars(t, step));
    TRY(microbatches_prepare(&t->microbatches, &w.microbatches));
    TRY(run_step(&w));
    TRY(collect_sums(t, step));
    t->step++;
fail:
    return rc;
}
