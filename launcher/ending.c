#include "launcher/ending.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/file.h"
#include "comm/rank_state.h"
#include "comm/watchdog.h"

static const char *signal_text(int number)
{
    return number == SIGKILL ? "Killed: by hand, or memory ran out" : strsignal(number);
}

// "; last seen: baseline step 740, in …", from the rank's own state file; "" when it has none.
// `name`: says which rank too.
static void last_seen(char out[RELAY_TEXT], const struct ending *e, int rank, bool name)
{
    char folder[PATH_CAPACITY], text[RELAY_TEXT / 2], before[RELAY_TEXT / 4];
    out[0] = '\0';
    if (!e->run_folder || path_join(folder, e->run_folder, "ranks") != RETORT_OK ||
        watchdog_describe(folder, rank, text, sizeof text) != RETORT_OK)
        return;
    const char *place = strstr(text, "): "); // "rank 1 on node7 (pid 123): student step 412, …"
    place = name || !place ? text : place + strlen("): ");
    watchdog_history(folder, rank, before, sizeof before);
    (void)snprintf(out, RELAY_TEXT, "; last seen: %s%s%s%s", place,
                   before[0] ? " (before it: " : "", before, before[0] ? ")" : "");
}

__attribute__((format(printf, 3, 4))) static void decide(struct verdict *v, int code,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(v->cause, sizeof v->cause, format, arguments);
    va_end(arguments);
    v->code = code;
}

static void judge_death(struct verdict *v, const struct ending *e)
{
    const struct relay *r = e->relay;
    char last[RELAY_TEXT];
    last_seen(last, e, r->dead_rank, false);
    v->rank = r->dead_rank;
    decide(v, RETORT_RANK, "rank %d on %s was ended by signal %d (%s)%s", r->dead_rank,
           r->dead_host, r->dead_signal, signal_text(r->dead_signal), last);
}

static bool is_worker_code(int code)
{
    return (code >= RETORT_FAILED && code <= RETORT_NUMERIC) || code == RETORT_STOPPED;
}

// The code that a rank wrote into its state file as it left; `otherwise` when it did not get there.
static int left_with(const struct ending *e, int rank, int otherwise)
{
    char folder[PATH_CAPACITY];
    struct rank_state s;
    if (rank < 0 || !e->run_folder || path_join(folder, e->run_folder, "ranks") != RETORT_OK ||
        state_read(&s, folder, rank) != RETORT_OK || !is_worker_code((int)s.exit_code))
        return otherwise;
    return (int)s.exit_code;
}

// What else mpirun said, and where all of it stands.
static void heard(char *out, size_t out_bytes, const struct ending *e)
{
    const struct relay *r = e->relay;
    const char *said = r->exit_rank < 0 && r->banner[0] ? r->banner : r->note;
    size_t used = 0;
    out[0] = '\0';
    if (said[0])
        used = (size_t)snprintf(out, out_bytes, "; mpirun says: %s", said);
    if (e->run_folder && used < out_bytes)
        (void)snprintf(out + used, out_bytes - used, "; all it said is in %s/mpirun.log",
                       e->run_folder);
}

static void judge_mpirun_death(struct verdict *v, const struct ending *e)
{
    char last[RELAY_TEXT], more[2 * RELAY_TEXT];
    int number = WTERMSIG(e->status);
    last_seen(last, e, 0, true);
    heard(more, sizeof more, e);
    decide(v, RETORT_RANK, "mpirun was ended by signal %d (%s), and the ranks with it%s%s", number,
           signal_text(number), last, more);
}

// A rank left with a code and without a line: a library has called exit(), or its line was lost.
static void judge_silence(struct verdict *v, const struct ending *e)
{
    const struct relay *r = e->relay;
    char last[RELAY_TEXT], more[2 * RELAY_TEXT];
    last_seen(last, e, r->exit_rank, false);
    heard(more, sizeof more, e);
    v->rank = r->exit_rank;
    decide(v, left_with(e, r->exit_rank, RETORT_RANK),
           "rank %d ended with code %d and did not say why%s%s", r->exit_rank, r->exit_code, last,
           more);
}

// mpirun names the rank that ended a run; where it names none, it ended the run itself.
static void judge_mpirun(struct verdict *v, const struct ending *e, int code)
{
    char last[RELAY_TEXT], more[2 * RELAY_TEXT];
    last_seen(last, e, 0, true);
    heard(more, sizeof more, e);
    decide(v, is_worker_code(code) && code != RETORT_FAILED ? code : RETORT_RANK,
           "mpirun ended the ranks with code %d and named none of them%s%s%s", code,
           e->relay->banner[0] ? "" : ", as when INT, TERM or HUP is sent to mpirun itself", last,
           more);
}

// What the rank itself has printed.
static void judge_said(struct verdict *v, const struct ending *e, int code)
{
    v->rank = e->relay->error_rank;
    v->said = true;
    decide(v, code, "%s", e->relay->error);
}

static void judge_killed(struct verdict *v, const struct ending *e)
{
    v->asked = true;
    v->remedy = "";
    decide(v, 128 + e->killed,
           "ended at once by signal %d; what came after the last checkpoint is lost", e->killed);
}

void ending_judge(struct verdict *v, const struct ending *e)
{
    const struct relay *r = e->relay;
    int code = WIFEXITED(e->status) ? WEXITSTATUS(e->status) : 128 + WTERMSIG(e->status);
    // One that has said what is wrong may not live to leave: with no memory, MPI itself crashes.
    int said = r->error_seen ? left_with(e, r->error_rank, RETORT_OK) : RETORT_OK;
    *v = (struct verdict){.rank = -1, .asked = e->stop != 0};
    v->remedy = e->run_folder ? "; run again to go on from the last checkpoint" : "";
    if (e->killed)
        judge_killed(v, e);
    else if (e->stop && (r->dead_signal == SIGUSR1 || code == 128 + SIGUSR1))
        v->code = RETORT_STOPPED; // before the ranks listened: nothing was done that could be lost
    else if (code == RETORT_OK)
        v->code = RETORT_OK;
    else if (r->dead_rank >= 0 && said && r->dead_rank == r->error_rank)
        judge_said(v, e, said);
    else if (r->dead_rank >= 0)
        judge_death(v, e);
    else if (WIFSIGNALED(e->status))
        judge_mpirun_death(v, e);
    else if (is_worker_code(code) && r->error_seen)
        judge_said(v, e, said ? said : code);
    else if (code == RETORT_STOPPED)
        v->code = code;
    else if (r->exit_rank >= 0)
        judge_silence(v, e);
    else if (code > 128 && code < 128 + NSIG) // so soon that mpirun does not know which
        decide(v, RETORT_RANK, "a rank was ended by signal %d (%s) right after its start",
               code - 128, strsignal(code - 128));
    else
        judge_mpirun(v, e, code);
    v->asked = v->asked || v->code == RETORT_STOPPED;
}

int verdict_say(const struct verdict *v)
{
    if (v->cause[0] && !v->said)
        (void)FAIL(v->code, "%s%s", v->cause, v->remedy);
    return v->code;
}
