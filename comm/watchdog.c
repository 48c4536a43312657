#include "comm/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/rank_state.h"

static const double WAKE_EVERY_S = 0.5; // or a tenth of the time limit
// A rank leaves the message to a lower one that waits too, but for no longer than this many wakes.
static const double GRACE_WAKES = 20.0;
// Without a sign of life for this long, a rank is dead or stopped (clocks of nodes differ a
// little).
static const double SILENT_AFTER_S = 3.0;
static const double LOOK_EVERY_S = 2.0; // whether the state file is still this rank's
enum { NAMED_RANKS = 8, ONE_RANK = 512, MESSAGE = ONE_RANK * (NAMED_RANKS + 1) };

struct watchdog {
    struct rank_state state; // the owner's; the thread reads the file
    struct state_file *file;
    char folder[PATH_CAPACITY];
    double timeout_s, wake_every_s;
    _Atomic double entered_s; // monotonic; 0: outside any collective
    pthread_t thread;
    bool started, stop;
    int taken;            // how often in a row the state file was another's
    pthread_mutex_t lock; // of `stop`
    pthread_cond_t wake;
};

// Appends to a message; what does not fit is cut.
__attribute__((format(printf, 2, 3))) static void append(char message[MESSAGE], const char *format,
                                                         ...)
{
    size_t used = strlen(message);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message + used, MESSAGE - used, format, arguments);
    va_end(arguments);
}

static bool is_silent(const struct rank_state *s)
{
    return s->exit_code < 0 && wall_seconds() - s->alive_s > SILENT_AFTER_S;
}

// Behind, gone, or in the same place without a sign of life: stopped while it waited.
static bool is_missing(const struct rank_state *mine, const struct rank_state *other)
{
    const bool uncounted = state_latest(mine)->number == 0;
    return other->collectives < mine->collectives || other->exit_code >= 0 ||
           (uncounted && other->collectives == mine->collectives && !state_inside(other)) ||
           is_silent(other);
}

static void append_rank(char message[MESSAGE], const struct rank_state *s)
{
    char doing[ONE_RANK / 2];
    state_describe(s, doing, sizeof doing);
    append(message, "rank %d on %s (pid %lld), last seen in %s", s->rank, s->host,
           (long long)s->pid, doing);
    if (s->exit_code >= 0)
        append(message, ", left with code %lld", (long long)s->exit_code);
    else if (is_silent(s))
        append(message, ", no sign of life for %.0f s", wall_seconds() - s->alive_s);
}

// "rank 2 on node7 (pid 123), last seen in …; rank 3 …"
static void list_missing(const struct watchdog *w, const struct rank_state *mine,
                         char message[MESSAGE])
{
    int missing = 0;
    for (int r = 0; r < mine->size; r++) {
        struct rank_state other;
        const bool known = r != mine->rank && state_read(&other, w->folder, r) == RETORT_OK;
        if (r == mine->rank || (known && !is_missing(mine, &other)))
            continue;
        if (++missing > NAMED_RANKS)
            continue;
        append(message, missing == 1 ? "" : "; ");
        if (known)
            append_rank(message, &other);
        else
            append(message, "rank %d, which has no state file in %s", r, w->folder);
    }
    if (missing > NAMED_RANKS)
        append(message, "; and %d more", missing - NAMED_RANKS);
    if (missing == 0)
        append(message, "no rank, so the network between them, or a GPU, has failed");
}

// The lowest rank that waits in the same place speaks for all.
static bool lower_rank_waits(const struct watchdog *w, const struct rank_state *mine)
{
    for (int r = 0; r < mine->rank; r++) {
        struct rank_state other;
        if (state_read(&other, w->folder, r) == RETORT_OK && !is_missing(mine, &other) &&
            state_inside(&other))
            return true;
    }
    return false;
}

// Ends the process when the collective it is in has lasted too long. exit() would run the handlers
// of libraries that the main thread is still inside of.
static void end_if_late(struct watchdog *w)
{
    const double entered_s = atomic_load(&w->entered_s);
    const double waited_s = clock_seconds() - entered_s;
    if (w->timeout_s <= 0.0 || entered_s == 0.0 || waited_s < w->timeout_s)
        return;
    struct rank_state mine;
    if (state_read(&mine, w->folder, w->state.rank) != RETORT_OK || !state_inside(&mine))
        return;
    mine.size = w->state.size;
    if (waited_s < w->timeout_s + GRACE_WAKES * w->wake_every_s && lower_rank_waits(w, &mine))
        return;
    char message[MESSAGE] = "", what[64], place[96];
    list_missing(w, &mine, message);
    record_describe(state_latest(&mine), what, sizeof what);
    state_place(&mine, place, sizeof place);
    if (atomic_load(&w->entered_s) != entered_s)
        return; // it has just ended
    FAIL(RETORT_RANK, "%s at %s has waited %.0f s; not arrived: %s", what, place, waited_s,
         message);
    _exit(RETORT_RANK);
}

// A process that was stopped for a while has missed what the others did meanwhile: it waits anew,
// and does not speak as it is woken to be ended.
static void wait_anew_if_stopped(struct watchdog *w, double slept_s)
{
    double entered_s = atomic_load(&w->entered_s);
    if (slept_s > SILENT_AFTER_S + w->wake_every_s && entered_s != 0.0)
        atomic_compare_exchange_strong(&w->entered_s, &entered_s, clock_seconds());
}

// Looked at twice, since a network file system may not answer rightly at once.
static void end_if_taken(struct watchdog *w)
{
    w->taken = state_file_taken(w->file, w->folder, w->state.rank) ? w->taken + 1 : 0;
    if (w->taken < 2)
        return;
    FAIL(RETORT_BUSY,
         "another start of this run has taken %s from this rank, which it held for gone; it ends",
         w->folder);
    _exit(RETORT_BUSY);
}

static void *watch(void *argument)
{
    struct watchdog *w = argument;
    double woke_s = clock_seconds();
    double looked_s = clock_seconds();
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        const int64_t ns = until.tv_nsec + (int64_t)(w->wake_every_s * 1e9);
        until.tv_sec += (time_t)(ns / 1000000000);
        until.tv_nsec = (long)(ns % 1000000000);
        pthread_cond_timedwait(&w->wake, &w->lock, &until);
        wait_anew_if_stopped(w, clock_seconds() - woke_s);
        woke_s = clock_seconds();
        state_file_alive(w->file, wall_seconds());
        if (!w->stop)
            end_if_late(w);
        if (!w->stop && clock_seconds() - looked_s > LOOK_EVERY_S) {
            end_if_taken(w);
            looked_s = clock_seconds();
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

// Signals are the main thread's: the new thread inherits a mask that blocks them all.
static int start_thread(struct watchdog *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return FAIL(RETORT_FAILED, "cannot start the watchdog's thread: %s", strerror(failed));
    w->started = true;
    return RETORT_OK;
}

int watchdog_create(struct watchdog **out, const char *folder, int rank, int size, const char *host,
                    double timeout_s)
{
    int rc = RETORT_OK;
    *out = NULL;
    struct watchdog *w = calloc(1, sizeof *w);
    TRY_ELSE(w, RETORT_MEMORY, "no memory for the watchdog");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&w->lock, NULL);
    w->timeout_s = timeout_s;
    w->wake_every_s =
        timeout_s > 0.0 && timeout_s < 10.0 * WAKE_EVERY_S ? timeout_s / 10.0 : WAKE_EVERY_S;
    const double now = wall_seconds();
    w->state = (struct rank_state){.rank = rank,
                                   .size = size,
                                   .pid = getpid(),
                                   .step = -1,
                                   .exit_code = -1,
                                   .changed_s = now,
                                   .alive_s = now};
    snprintf(w->state.host, sizeof w->state.host, "%s", host);
    TRY_ELSE(snprintf(w->folder, sizeof w->folder, "%s", folder) < PATH_CAPACITY, RETORT_USAGE,
             "the folder's name is too long: %s", folder);
    TRY(state_file_create(&w->file, folder, &w->state));
    TRY(start_thread(w));
    *out = w;
    return RETORT_OK;
fail:
    watchdog_destroy(&w, rc);
    return rc;
}

void watchdog_destroy(struct watchdog **p, int code)
{
    struct watchdog *w = *p;
    *p = NULL;
    if (!w)
        return;
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    if (w->file) {
        w->state.exit_code = code;
        state_file_write(w->file, &w->state, false);
    }
    state_file_close(&w->file);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

double watchdog_timeout_s(const struct watchdog *w)
{
    return w ? w->timeout_s : 0.0;
}

void watchdog_phase(struct watchdog *w, const char *phase)
{
    if (!w)
        return;
    snprintf(w->state.phase, sizeof w->state.phase, "%s", phase);
    w->state.step = -1;
    state_file_write(w->file, &w->state, false);
}

void watchdog_step(struct watchdog *w, int64_t step)
{
    if (!w)
        return;
    w->state.step = step;
    state_file_write(w->file, &w->state, false);
}

static void begin(struct watchdog *w, int64_t number, const char *name, size_t bytes)
{
    struct rank_state *s = &w->state;
    struct state_record *r = &s->records[s->latest++ % STATE_RECORDS];
    *r = (struct state_record){
        .number = number, .step = s->step, .bytes = bytes, .entered_s = wall_seconds()};
    snprintf(r->name, sizeof r->name, "%s", name);
    state_file_write(w->file, s, true);
    atomic_store(&w->entered_s, clock_seconds());
}

void watchdog_enter(struct watchdog *w, const char *collective, size_t bytes)
{
    if (w)
        begin(w, ++w->state.collectives, collective, bytes);
}

void watchdog_wait(struct watchdog *w, const char *what, size_t bytes)
{
    if (w)
        begin(w, 0, what, bytes);
}

void watchdog_leave(struct watchdog *w)
{
    if (!w)
        return;
    atomic_store(&w->entered_s, 0.0);
    w->state.records[(w->state.latest - 1) % STATE_RECORDS].left_s = wall_seconds();
    state_file_write(w->file, &w->state, true);
}

int watchdog_describe(const char *folder, int rank, char *out, size_t out_bytes)
{
    struct rank_state s;
    char doing[ONE_RANK / 2];
    int rc = state_read(&s, folder, rank);
    if (rc != RETORT_OK) {
        snprintf(out, out_bytes, "rank %d: ended before it wrote its state", rank);
        return rc;
    }
    state_describe(&s, doing, sizeof doing);
    snprintf(out, out_bytes, "rank %d on %s (pid %lld): %s", rank, s.host, (long long)s.pid, doing);
    return RETORT_OK;
}

void watchdog_history(const char *folder, int rank, char *out, size_t out_bytes)
{
    struct rank_state s;
    out[0] = '\0';
    if (state_read(&s, folder, rank) == RETORT_OK)
        state_history(&s, out, out_bytes);
}
