#include "worker/stage_train.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/cost.h"
#include "worker/evaluate.h"
#include "worker/loss_scale.h"
#include "worker/own_range.h"
#include "worker/saving.h"
#include "worker/schedule.h"

// What the ranks vote on after every step; the largest vote wins.
enum vote {
    VOTE_GO_ON = 0,
    VOTE_CHECKPOINT = 1,
    VOTE_NOT_FINITE = RETORT_NUMERIC,
    VOTE_STOP = RETORT_STOPPED
};

struct training {
    struct trainer *t;       // owned
    struct progress_state s; // where it stands
    struct progress bar;
    double last_save_s, last_log_s;
    double log_samples, log_seconds; // since the last metrics line
    bool told_cost;
};

static double images_per_second(const struct training *w)
{
    return w->log_seconds > 0 ? w->log_samples / w->log_seconds : 0;
}

static json_t *train_line(const struct training *w, const char *event, const struct epoch_sums *e)
{
    double n = e->samples > 0 ? e->samples : 1;
    double lr = schedule_lr(w->t->recipe, w->t->step - 1, sampler_steps(&w->t->sampler));
    return json_pack(
        "{s:s,s:s,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I}", "event", event, "stage",
        stage_name(w->t->stage), "epoch", (json_int_t)w->s.epoch, "step", (json_int_t)w->t->step,
        "loss", e->sums[LOSS_TOTAL] / n, "ce", e->sums[LOSS_CE] / n, "kd", e->sums[LOSS_KD] / n,
        "train_top1", e->sums[LOSS_TOP1] / n, "lr", lr, "images_per_s", images_per_second(w),
        "seconds", w->s.seconds, "epoch_steps", (json_int_t)sampler_steps(&w->t->sampler));
}

// This rank's own sums stand for all in what is shown while an epoch runs: every rank's share of a
// batch is a random one.
static int log_interval(struct training *w)
{
    struct rank *rank = w->t->rank;
    double now = clock_seconds();
    if (now - w->last_log_s < rank->recipe.run.log_every_s)
        return RETORT_OK;
    struct epoch_sums own = w->t->epoch;
    own.samples /= comm_size(rank->comm);
    int rc = metrics_line(rank->metrics, train_line(w, "train", &own));
    w->last_log_s = now;
    w->log_samples = w->log_seconds = 0;
    return rc;
}

static void show_progress(struct training *w, int64_t step)
{
    char detail[96];
    const struct epoch_sums *e = &w->t->epoch;
    double own = e->samples / comm_size(w->t->rank->comm);
    if (!rank_is_first(w->t->rank))
        return;
    (void)snprintf(detail, sizeof detail, "loss %.3f  %.0f images/s",
                   own > 0 ? e->sums[LOSS_TOTAL] / own : 0.0,
                   e->seconds > 0 ? e->samples / e->seconds : 0.0);
    progress_update(&w->bar, step + 1, detail);
}

static int vote_after_step(struct training *w)
{
    struct rank *rank = w->t->rank;
    int vote = VOTE_GO_ON;
    if (rank_is_first(rank) &&
        clock_seconds() - w->last_save_s > rank->recipe.run.checkpoint_every_s)
        vote = VOTE_CHECKPOINT;
    if (!w->t->finite)
        vote = VOTE_NOT_FINITE;
    if (w->t->finite && stop_requested(rank))
        vote = VOTE_STOP;
    return comm_agree(rank->comm, vote);
}

// What is done between two steps, and after which.
static void enter_phase(const struct training *w, const char *phase)
{
    watchdog_phase(w->t->rank->watchdog, phase);
    watchdog_step(w->t->rank->watchdog, w->t->step);
}

static int save(struct training *w, bool is_best)
{
    enter_phase(w, "checkpoint");
    int rc = trainer_save(w->t, &w->s, is_best);
    enter_phase(w, stage_name(w->t->stage));
    w->last_save_s = clock_seconds();
    return rc;
}

// Collective.
static int end_not_finite(struct training *w)
{
    struct rank *rank = w->t->rank;
    rank->agreed = true;
    if (!rank_speaks(rank, !w->t->finite))
        return RETORT_NUMERIC;
    return FAIL(RETORT_NUMERIC,
                "the loss is not finite at step %lld of the %s (epoch %lld); lower "
                "%s.optimizer.lr or add warm-up; checkpoints before it are kept",
                (long long)w->t->step, stage_name(w->t->stage), (long long)w->s.epoch + 1,
                w->t->stage == STAGE_TEACHER ? "teacher" : "student");
}

static int act_on_vote(struct training *w, int vote)
{
    struct rank *rank = w->t->rank;
    int rc;
    if (vote == VOTE_GO_ON)
        return RETORT_OK;
    rc = save(w, false);
    if (rc == RETORT_OK && vote == VOTE_STOP) {
        log_info("stopped on request after step %lld of the %s; run the same command to go on",
                 (long long)w->t->step, stage_name(w->t->stage));
        rank->agreed = true;
        rc = RETORT_STOPPED;
    }
    return rc;
}

// Between steps: samples and logits of the next epoch move on.
static int feed_next_epoch(struct training *w, int64_t steps)
{
    struct rank *rank = w->t->rank;
    int rc = RETORT_OK;
    if (w->s.epoch + 1 >= w->t->recipe->epochs)
        return RETORT_OK;
    TRY(shard_progress(rank->train));
    if (w->t->views) {
        enum random_domain domain;
        uint32_t next;
        stage_view(&rank->recipe, w->t->stage, w->s.epoch + 1, &domain, &next);
        TRY(views_progress(w->t->views, next, steps));
    }
fail:
    return rc;
}

static int one_step(struct training *w, int64_t step, int64_t steps)
{
    double start = clock_seconds();
    int rc = RETORT_OK;
    TRY(trainer_step(w->t, w->s.epoch, step));
    TRY(feed_next_epoch(w, steps));
    int vote = vote_after_step(w);
    if (vote == VOTE_NOT_FINITE)
        return end_not_finite(w);
    double took = clock_seconds() - start;
    double samples = (double)sampler_step_size(&w->t->sampler, step);
    w->t->epoch.seconds += took;
    w->s.seconds += took;
    w->s.samples += samples;
    w->log_seconds += took;
    w->log_samples += samples;
    w->s.epoch_step = step + 1;
    if (!w->told_cost)
        w->told_cost = cost_say_time(w->t, w->s.samples, w->s.seconds);
    show_progress(w, step);
    TRY(log_interval(w));
    TRY(act_on_vote(w, vote));
fail:
    return rc;
}

static int begin_epoch(struct training *w)
{
    struct trainer *t = w->t;
    enum random_domain domain;
    uint32_t view;
    int rc = RETORT_OK;
    enter_phase(w, "exchange");
    TRY(shard_begin_epoch(t->rank->train, &t->sampler, w->s.epoch));
    if (w->s.epoch + 1 < t->recipe->epochs)
        TRY(shard_prefetch(t->rank->train, &t->sampler, w->s.epoch + 1));
    stage_view(&t->rank->recipe, t->stage, w->s.epoch, &domain, &view);
    if (t->views)
        TRY(views_begin(t->views, view));
    enter_phase(w, stage_name(t->stage));
fail:
    return rc;
}

static int train_epoch(struct training *w)
{
    char what[64];
    struct trainer *t = w->t;
    int64_t steps = sampler_steps(&t->sampler);
    int rc = begin_epoch(w);
    (void)snprintf(what, sizeof what, "%s epoch %lld/%lld", stage_name(t->stage),
                   (long long)w->s.epoch + 1, (long long)t->recipe->epochs);
    progress_init(&w->bar, what, steps);
    for (int64_t step = w->s.epoch_step; rc == RETORT_OK && step < steps; step++)
        rc = one_step(w, step, steps);
    progress_end(&w->bar);
    return rc;
}

static void say_epoch(const struct training *w, const struct epoch_sums *e,
                      const struct evaluation *raw, const struct evaluation *ema)
{
    char average[64] = "", took[32];
    if (ema)
        (void)snprintf(average, sizeof average, "  ema %.2f %%",
                       100.0 * (double)ema->top1_count / (double)ema->count);
    format_duration(e->seconds, took, sizeof took);
    log_info(
        "%-8s epoch %lld/%lld  train loss %.3f  top-1 %.2f %%  top-5 %.2f %%%s  "
        "%.0f images/s  %s",
        stage_name(w->t->stage), (long long)w->s.epoch + 1, (long long)w->t->recipe->epochs,
        e->sums[LOSS_TOTAL] / e->samples, 100.0 * (double)raw->top1_count / (double)raw->count,
        100.0 * (double)raw->top5_count / (double)raw->count, average, e->samples / e->seconds,
        took);
}

static int record_epoch(struct training *w, const struct evaluation *raw,
                        const struct evaluation *ema)
{
    struct epoch_sums e;
    int rc = trainer_sum_epoch(w->t, &e);
    if (rc != RETORT_OK)
        return rc;
    json_t *line = train_line(w, "epoch", &e);
    json_object_set_new(line, "images_per_s", json_real(e.samples / e.seconds));
    json_t *results = json_object();
    json_object_set_new(results, "raw", evaluation_json(raw));
    json_object_update(line, json_object_get(results, "raw"));
    json_object_set_new(line, "val_loss", json_real(raw->loss));
    json_object_set_new(line, "loss", json_real(e.sums[LOSS_TOTAL] / e.samples));
    if (ema) {
        json_object_set_new(results, "ema", evaluation_json(ema));
        json_object_set_new(line, "ema_top1",
                            json_real((double)ema->top1_count / (double)ema->count));
        json_object_set_new(line, "ema_top5",
                            json_real((double)ema->top5_count / (double)ema->count));
        json_object_set_new(line, "ema_loss", json_real(ema->loss));
    }
    json_decref(w->s.results);
    w->s.results = results;
    rc = loss_scale_describe(line, w->t->rank->engine, w->t->arenas.scale, false);
    if (rc != RETORT_OK) {
        json_decref(line);
        return rc;
    }
    say_epoch(w, &e, raw, ema);
    return metrics_line(w->t->rank->metrics, line);
}

// Evaluation gives every rank the same numbers.
static int check_evaluation(struct training *w, const char *weights, const struct evaluation *e)
{
    struct rank *rank = w->t->rank;
    int rc = RETORT_OK;
    if (!isfinite(e->loss))
        rc = RETORT_NUMERIC;
    if (rc != RETORT_OK && rank_is_first(rank))
        rc = FAIL(RETORT_NUMERIC,
                  "the validation loss of the %s weights is not finite after step %lld of the %s; "
                  "lower %s.optimizer.lr or add warm-up; checkpoints before it are kept",
                  weights, (long long)w->t->step, stage_name(w->t->stage),
                  w->t->stage == STAGE_TEACHER ? "teacher" : "student");
    return rank_agree(rank, rc);
}

// Evaluates raw and EMA weights, records, saves. Best is by the raw weights' top-1.
static int end_epoch(struct training *w)
{
    struct trainer *t = w->t;
    struct rank *rank = t->rank;
    struct evaluation raw, ema;
    const void *average;
    bool averages = t->arenas.ema != NULL;
    int rc = RETORT_OK;
    enter_phase(w, "evaluation");
    TRY(evaluate(&raw, rank, rank->val, t->evaluator, t->eval_input, t->arenas.weights, NULL));
    TRY(check_evaluation(w, "raw", &raw));
    if (averages) {
        TRY(own_range_gather(t, &average, t->arenas.ema, t->graph->total));
        TRY(evaluate(&ema, rank, rank->val, t->evaluator, t->eval_input, average, NULL));
        TRY(check_evaluation(w, "EMA", &ema));
    }
    TRY(record_epoch(w, &raw, averages ? &ema : NULL));
    double top1 = (double)raw.top1_count / (double)raw.count;
    bool is_best = top1 > w->s.best_top1 || w->s.best_step < 0;
    if (is_best) {
        w->s.best_top1 = top1;
        w->s.best_step = t->step;
    }
    w->s.epoch++;
    w->s.epoch_step = 0;
    w->s.finished = w->s.epoch == t->recipe->epochs;
    memset(&t->epoch, 0, sizeof t->epoch);
    TRY(save(w, is_best));
fail:
    return rc;
}

static int write_summary(const struct training *w)
{
    char key[32];
    const struct trainer *t = w->t;
    json_t *raw = json_deep_copy(json_object_get(w->s.results, "raw"));
    json_t *ema = json_object_get(w->s.results, "ema");
    json_object_set_new(raw, "best_top1", json_real(w->s.best_top1));
    json_object_set_new(raw, "images_per_s", json_real(w->s.samples / w->s.seconds));
    json_object_set_new(raw, "seconds", json_real(w->s.seconds));
    // The network trained last stands for the run.
    struct metrics *m = t->rank->metrics;
    summary_set(m, "images_per_s", json_real(w->s.samples / w->s.seconds));
    summary_set(m, stage_name(t->stage), raw);
    (void)snprintf(key, sizeof key, "%s_ema", stage_name(t->stage));
    if (ema)
        summary_set(m, key, json_deep_copy(ema));
    return summary_write(m);
}

static int begin_training(struct training *w, const char *teacher)
{
    bool found = false;
    int rc = RETORT_OK;
    w->s = (struct progress_state){.best_step = -1, .results = json_object()};
    TRY(trainer_resume(w->t, &w->s, &found));
    if (found && teacher[0] && w->t->step > 0) {
        struct rank *rank = w->t->rank;
        if (rank_is_first(rank))
            rc = student_check_teacher(rank, w->s.teacher, teacher);
        TRY(rank_agree(rank, rc));
    }
    (void)snprintf(w->s.teacher, sizeof w->s.teacher, "%s", teacher);
    if (found && !w->s.finished)
        log_info("%s goes on from step %lld (epoch %lld)", stage_name(w->t->stage),
                 (long long)w->t->step, (long long)w->s.epoch + 1);
    w->last_save_s = w->last_log_s = clock_seconds();
fail:
    return rc;
}

int stage_train(struct rank *rank, enum stage stage, struct views *views, const char *teacher)
{
    struct training w = {0};
    int rc = RETORT_OK;
    watchdog_phase(rank->watchdog, stage_name(stage));
    TRY(trainer_create(&w.t, rank, stage, views));
    TRY(begin_training(&w, teacher));
    if (!w.s.finished)
        cost_say_memory(w.t);
    while (!w.s.finished) {
        TRY(train_epoch(&w));
        TRY(end_epoch(&w));
    }
    TRY(rank_agree(rank, write_summary(&w)));
fail:
    progress_state_free(&w.s);
    trainer_destroy(&w.t);
    return rc;
}
