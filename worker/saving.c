#include "worker/saving.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/loss_scale.h"
#include "worker/network_file.h"
#include "worker/own_range.h"

void progress_state_free(struct progress_state *s)
{
    json_decref(s->results);
    s->results = NULL;
}

int trainer_sum_epoch(struct trainer *t, struct epoch_sums *all)
{
    int size = comm_size(t->rank->comm), rc = RETORT_OK;
    struct epoch_sums *each = calloc((size_t)size, sizeof *each);
    if (!each)
        return FAIL(RETORT_MEMORY, "no memory for the sums of %d ranks", size);
    TRY(comm_allgather(t->rank->comm, &t->epoch, sizeof t->epoch, each));
    *all = (struct epoch_sums){.samples = t->epoch.samples, .seconds = t->epoch.seconds};
    for (int r = 0; r < size; r++)
        for (int i = 0; i < LOSS_SUMS; i++)
            all->sums[i] += each[r].sums[i];
fail:
    free(each);
    return rc;
}

static json_t *state_json(const struct trainer *t, const struct progress_state *s,
                          const struct epoch_sums *sums)
{
    json_t *epoch_sums = json_array();
    for (int i = 0; i < LOSS_SUMS; i++)
        json_array_append_new(epoch_sums, json_real(sums->sums[i]));
    return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:b,s:f,s:I,s:f,s:f,s:s,s:O,s:s,s:o,s:f,s:f}",
                     "stage", stage_name(t->stage), "device", engine_name(t->rank->engine), "arch",
                     t->graph->arch, "step", (json_int_t)t->step, "epoch", (json_int_t)s->epoch,
                     "epoch_step", (json_int_t)s->epoch_step, "finished", (int)s->finished,
                     "best_top1", s->best_top1, "best_step", (json_int_t)s->best_step, "seconds",
                     s->seconds, "samples", s->samples, "teacher", s->teacher, "results",
                     s->results, "plan", t->plan, "epoch_sums", epoch_sums, "epoch_samples",
                     sums->samples, "epoch_seconds", sums->seconds);
}

static int describe_data(struct checkpoint *c, const struct dataset *d)
{
    struct network_facts facts;
    int rc = network_facts_of_dataset(&facts, d);
    if (rc != RETORT_OK)
        return rc;
    c->pictures = network_facts_pictures(&facts);
    c->classes = network_facts_classes(&facts);
    c->dataset = strdup(d->fingerprint);
    network_facts_free(&facts);
    return c->pictures && c->classes && c->dataset ? RETORT_OK
                                                   : FAIL(RETORT_MEMORY, "no memory for names");
}

// A host copy of an arena of engine memory; NULL for NULL.
static int fetch_arena(const struct trainer *t, void **out, const void *arena, size_t count)
{
    size_t bytes = count * real_bytes(engine_real(t->rank->engine));
    if (!arena)
        return RETORT_OK;
    *out = malloc(bytes);
    if (!*out)
        return FAIL(RETORT_MEMORY, "no memory for a checkpoint");
    return engine_download(t->rank->engine, *out, arena, bytes);
}

// Collective. On rank 0 the same of an arena of which every rank may keep a range only.
static int gather_arena(struct trainer *t, void **out, const void *own, size_t count)
{
    const void *whole = NULL;
    int rc = RETORT_OK;
    if (!own)
        return rc;
    TRY(own_range_gather(t, &whole, own, count));
    TRY(rank_agree(t->rank,
                   rank_is_first(t->rank) ? fetch_arena(t, out, whole, count) : RETORT_OK));
fail:
    return rc;
}

// Collective.
static int gather_arenas(struct checkpoint *c, struct trainer *t)
{
    int rc = RETORT_OK;
    TRY(gather_arena(t, &c->ema, t->arenas.ema, t->graph->total));
    TRY(gather_arena(t, &c->moment1, t->arenas.moment1, t->graph->trainable));
    TRY(gather_arena(t, &c->moment2, t->arenas.moment2, t->graph->trainable));
fail:
    return rc;
}

static int collect_checkpoint(struct checkpoint *c, struct trainer *t,
                              const struct progress_state *s, const struct epoch_sums *sums)
{
    int rc = RETORT_OK;
    c->real = engine_real(t->rank->engine);
    c->total = t->graph->total;
    c->trainable = t->graph->trainable;
    TRY(fetch_arena(t, &c->weights, t->arenas.weights, c->total));
    c->state = state_json(t, s, sums);
    TRY(loss_scale_describe(c->state, t->rank->engine, t->arenas.scale, true));
    c->layout = network_layout(t->graph);
    TRY(describe_data(c, &t->rank->dataset));
    TRY(recipe_to_text(&t->rank->recipe, &c->recipe));
    TRY_ELSE(c->state && c->layout, RETORT_MEMORY, "no memory for a checkpoint");
fail:
    return rc;
}

// `c` holds what was gathered.
static int save_files(struct checkpoint *c, struct trainer *t, const struct progress_state *s,
                      const struct epoch_sums *sums, bool is_best)
{
    char folder[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(rank_check_owner(t->rank));
    TRY(stage_folder(folder, t->rank, t->stage));
    TRY(metrics_flush(t->rank->metrics));
    TRY(collect_checkpoint(c, t, s, sums));
    TRY(checkpoint_write(folder, t->step, c, t->rank->recipe.run.keep_checkpoints));
    if (is_best)
        TRY(checkpoint_link(folder, t->step, "best.h5"));
    TRY(checkpoint_link(folder, t->step, "last.h5"));
    TRY(summary_clock(t->rank->metrics));
fail:
    return rc;
}

int trainer_save(struct trainer *t, const struct progress_state *s, bool is_best)
{
    struct epoch_sums sums;
    struct checkpoint c = {0};
    int rc = RETORT_OK;
    TRY(trainer_sum_epoch(t, &sums));
    TRY(gather_arenas(&c, t));
    if (rank_is_first(t->rank))
        rc = save_files(&c, t, s, &sums, is_best);
    rc = rank_agree(t->rank, rc);
fail:
    checkpoint_free(&c);
    return rc;
}

static int read_state(struct trainer *t, struct progress_state *s, const struct checkpoint *c)
{
    json_t *sums = NULL, *results = NULL;
    const char *teacher = "", *plan = "", *arch = "";
    json_int_t step, epoch, epoch_step, best_step;
    int finished;
    if (json_unpack(c->state, "{s:I,s:I,s:I,s:b,s:f,s:I,s:f,s:f,s:s,s:O,s:o,s:f,s:f,s:s,s:s}",
                    "step", &step, "epoch", &epoch, "epoch_step", &epoch_step, "finished",
                    &finished, "best_top1", &s->best_top1, "best_step", &best_step, "seconds",
                    &s->seconds, "samples", &s->samples, "teacher", &teacher, "results", &results,
                    "epoch_sums", &sums, "epoch_samples", &t->epoch.samples, "epoch_seconds",
                    &t->epoch.seconds, "plan", &plan, "arch", &arch) != 0)
        return FAIL(RETORT_INPUT, "the state of a checkpoint of the %s lacks a member",
                    stage_name(t->stage));
    json_decref(s->results);
    s->results = results;
    s->epoch = epoch;
    s->epoch_step = epoch_step;
    s->finished = finished != 0;
    s->best_step = best_step;
    t->step = step;
    (void)snprintf(s->teacher, sizeof s->teacher, "%s", teacher);
    for (int i = 0; i < LOSS_SUMS; i++) // the others begin with zero: only the total matters
        t->epoch.sums[i] =
            rank_is_first(t->rank) ? json_real_value(json_array_get(sums, (size_t)i)) : 0.0;
    if (rank_is_first(t->rank) && strcmp(plan, t->plan) != 0)
        log_warn("the %s goes on by another engine plan than its checkpoint's; bits may differ",
                 stage_name(t->stage));
    return RETORT_OK;
}

// This rank's elements `own` of a checkpoint's arena.
static int put_arena(struct trainer *t, void *arena, const void *from, struct own_range own)
{
    const size_t one = real_bytes(engine_real(t->rank->engine));
    if (!arena)
        return RETORT_OK;
    if (!from)
        return FAIL(RETORT_INPUT, "a checkpoint of the %s lacks an arena that its recipe needs",
                    stage_name(t->stage));
    return engine_upload(t->rank->engine, arena, (const char *)from + own.begin * one,
                         own.count * one);
}

static int restore(struct trainer *t, struct progress_state *s, const struct checkpoint *c)
{
    int rc = RETORT_OK;
    CHECK(c->dataset && t->graph);
    TRY_ELSE(c->total == t->graph->total && c->trainable == t->graph->trainable &&
                 c->real == engine_real(t->rank->engine),
             RETORT_INPUT, "the checkpoint of the %s is of another network or precision",
             stage_name(t->stage));
    TRY_ELSE(strcmp(c->dataset, t->rank->dataset.fingerprint) == 0, RETORT_INPUT,
             "%s is not the data set that the checkpoints of %s were trained on",
             t->rank->recipe.data.path, t->rank->folder);
    TRY(read_state(t, s, c));
    const struct own_range all = {0, c->total}, moments = own_range_of(t, c->trainable);
    TRY(put_arena(t, t->arenas.weights, c->weights, all));
    TRY(put_arena(t, t->arenas.ema, c->ema, own_range_of(t, c->total)));
    TRY(put_arena(t, t->arenas.moment1, c->moment1, moments));
    TRY(put_arena(t, t->arenas.moment2, c->moment2, moments));
    TRY(loss_scale_restore(t->arenas.scale, t->rank->engine, c->state));
    TRY(network_set_weights(t->network, t->arenas.weights));
fail:
    return rc;
}

int student_check_teacher(const struct rank *rank, const char *began, const char *teacher)
{
    if (strcmp(began, teacher) == 0)
        return RETORT_OK;
    return FAIL(RETORT_INPUT,
                "the student of %s began with the logits of another teacher; put that one back or "
                "use --fresh",
                rank->folder);
}

int student_check_saved(const struct rank *rank, const char *teacher)
{
    const char *began;
    char folder[PATH_CAPACITY];
    struct checkpoint c = {0};
    int64_t step;
    int rc;
    TRY(stage_folder(folder, rank, STAGE_STUDENT));
    TRY(checkpoint_read_newest(&c, folder, &step));
    began = json_string_value(json_object_get(c.state, "teacher"));
    if (step > 0 && began)
        TRY(student_check_teacher(rank, began, teacher));
fail:
    checkpoint_free(&c);
    return rc;
}

// Rank 0 alone decides which checkpoint it is: others may see the folder a moment later (NFS).
static int read_chosen(struct trainer *t, struct checkpoint *c, int64_t *step)
{
    char folder[PATH_CAPACITY], path[PATH_CAPACITY], name[64];
    int rc = RETORT_OK;
    *step = -1;
    TRY(stage_folder(folder, t->rank, t->stage));
    if (rank_is_first(t->rank))
        rc = checkpoint_read_newest(c, folder, step);
    TRY(rank_agree(t->rank, rc));
    TRY(comm_broadcast(t->rank->comm, step, sizeof *step, 0));
    if (*step >= 0 && !rank_is_first(t->rank)) {
        (void)snprintf(name, sizeof name, "ckpt-%09lld.h5", (long long)*step);
        TRY(path_join(path, folder, name));
        rc = checkpoint_read(c, path, false);
    }
    rc = rank_agree(t->rank, rc);
fail:
    return rc;
}

int trainer_resume(struct trainer *t, struct progress_state *s, bool *found)
{
    struct checkpoint c = {0};
    int64_t step;
    int rc = RETORT_OK;
    TRY(read_chosen(t, &c, &step));
    *found = step >= 0;
    if (*found)
        TRY_IN_TURN(t->rank, restore(t, s, &c));
    TRY(rank_agree(t->rank, metrics_forget(t->rank->metrics, stage_name(t->stage),
                                           *found ? t->step : -1, s->epoch_step == 0)));
fail:
    checkpoint_free(&c);
    return rc;
}
