#include "launcher/restart.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/rank_state.h"
#include "launcher/ending.h"
#include "launcher/run_events.h"
#include "launcher/run_folder.h"
#include "launcher/signals.h"

static const double FIRST_PAUSE_S = 1, LONGEST_PAUSE_S = 60;

// Where the ranks stood when they failed.
struct place {
    char phase[STATE_PHASE]; // "" when no rank had got to its state file
    int64_t step;            // -1 for none
    char cause[CAUSE_CAPACITY];
};

struct history {
    struct place places[RESTARTS_MAX + 1]; // of each start, but for the last
    int count;
};

// The rank that failed, else the first.
static void find_place(struct place *p, const char *run_folder, const struct verdict *v)
{
    char ranks[PATH_CAPACITY];
    struct rank_state s;
    *p = (struct place){.step = -1};
    snprintf(p->cause, sizeof p->cause, "%s", v->cause);
    if (path_join(ranks, run_folder, "ranks") != RETORT_OK ||
        state_read(&s, ranks, v->rank < 0 ? 0 : v->rank) != RETORT_OK)
        return;
    snprintf(p->phase, sizeof p->phase, "%s", s.phase[0] ? s.phase : "start");
    p->step = s.step;
}

static bool may_help(const struct verdict *v, const struct place *p)
{
    return !v->asked && p->phase[0] && (v->code == RETORT_RANK || v->code == RETORT_FAILED);
}

static const struct place *find_earlier(const struct history *h, const struct place *p)
{
    for (int i = 0; i < h->count; i++)
        if (h->places[i].step == p->step && strcmp(h->places[i].phase, p->phase) == 0)
            return &h->places[i];
    return NULL;
}

static void place_text(const struct place *p, char *out, size_t out_bytes)
{
    if (p->step >= 0)
        snprintf(out, out_bytes, "%s step %lld", p->phase, (long long)p->step);
    else
        snprintf(out, out_bytes, "%s", p->phase);
}

static int give_up_at_place(const struct verdict *v, const struct place *first)
{
    char where[STATE_PHASE + 32];
    place_text(first, where, sizeof where);
    return FAIL(v->code, "failed twice at %s, so no restart will help; the first time: %s", where,
                first->cause);
}

static int give_up_at_limit(const struct verdict *v, int limit)
{
    return FAIL(v->code, "gave up after %d restart%s: %s%s", limit, limit == 1 ? "" : "s", v->cause,
                v->remedy);
}

// On the screen, in log.txt and in metrics.jsonl.
static void record(const char *run_folder, int number, int limit, double pause_s,
                   const struct place *p)
{
    char where[STATE_PHASE + 32], path[PATH_CAPACITY];
    place_text(p, where, sizeof where);
    bool logs = path_join(path, run_folder, "log.txt") == RETORT_OK && log_open(path) == RETORT_OK;
    log_warn("restart %d of at most %d from the last checkpoint, in %.0f s; failed at %s: %s",
             number, limit, pause_s, where, p->cause);
    if (logs)
        log_close();
    run_events_add(run_folder, json_pack("{s:s, s:I, s:i, s:s, s:I, s:s}", "event", "restart",
                                         "time", (json_int_t)time(NULL), "restart", number, "phase",
                                         p->phase, "step", (json_int_t)p->step, "cause", p->cause));
}

// Says so and waits. False when a signal asks for an end meanwhile.
static bool pause_before(const struct start *start, int number, int limit, double pause_s,
                         const struct place *failed_at)
{
    sigset_t set, before;
    double end = clock_seconds() + pause_s;
    bool asked = false;
    signals_of_launcher(&set);
    sigdelset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &before); // first: who reads the line may ask at once
    record(start->run_folder, number, limit, pause_s, failed_at);
    for (double left; !asked && (left = end - clock_seconds()) > 0;) {
        double part = fmin(left, OWNER_BEAT_S);
        struct timespec wait = {.tv_sec = (time_t)part};
        wait.tv_nsec = (long)((part - (double)wait.tv_sec) * 1e9);
        asked = sigtimedwait(&set, NULL, &wait) > 0;
        (void)owner_refresh(start->owner); // one that is lost is seen at the next start
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !asked;
}

int restart_ranks(const struct start *start, int limit)
{
    static struct history h; // large, and needed once
    struct verdict v;
    h.count = 0;
    for (double pause_s = FIRST_PAUSE_S;; pause_s = fmin(2 * pause_s, LONGEST_PAUSE_S)) {
        struct place *here = &h.places[h.count];
        start_run(start, &v);
        find_place(here, start->run_folder, &v);
        if (limit == 0 || !may_help(&v, here))
            return verdict_say(&v);
        const struct place *earlier = find_earlier(&h, here);
        if (earlier)
            return give_up_at_place(&v, earlier);
        if (h.count == limit)
            return give_up_at_limit(&v, limit);
        h.count++;
        if (!pause_before(start, h.count, limit, pause_s, here))
            return RETORT_STOPPED;
        if (owner_refresh(start->owner)) { // else that start's first beat sees it, too
            run_folder_clear_states(start->run_folder);
            run_folder_clear_partials(start->run_folder);
        }
    }
}
