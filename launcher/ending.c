#include "launcher/ending.h"

#include <signal.h>
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

static const char *remedy(const struct ending *e)
{
    return e->run_folder ? "; run again to go on from the last checkpoint" : "";
}

static int report_death(const struct ending *e)
{
    const struct relay *r = e->relay;
    char last[RELAY_TEXT];
    last_seen(last, e, r->dead_rank, false);
    return FAIL(RETORT_RANK, "rank %d on %s was ended by signal %d (%s)%s%s", r->dead_rank,
                r->dead_host, r->dead_signal, signal_text(r->dead_signal), last, remedy(e));
}

static int report_mpirun_death(const struct ending *e)
{
    char last[RELAY_TEXT];
    int number = WTERMSIG(e->status);
    last_seen(last, e, 0, true);
    return FAIL(RETORT_RANK, "mpirun was ended by signal %d (%s), and the ranks with it%s%s",
                number, signal_text(number), last, remedy(e));
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

// A rank left with a code and without a line: a library has called exit(), or its line was lost.
static int report_silence(const struct ending *e)
{
    const struct relay *r = e->relay;
    char last[RELAY_TEXT], more[2 * RELAY_TEXT];
    last_seen(last, e, r->exit_rank, false);
    heard(more, sizeof more, e);
    return FAIL(left_with(e, r->exit_rank, RETORT_RANK),
                "rank %d ended with code %d and did not say why%s%s%s", r->exit_rank, r->exit_code,
                last, more, remedy(e));
}

// mpirun names the rank that ended a run; where it names none, it ended the run itself.
static int report_mpirun(const struct ending *e, int code)
{
    char last[RELAY_TEXT], more[2 * RELAY_TEXT];
    last_seen(last, e, 0, true);
    heard(more, sizeof more, e);
    return FAIL(is_worker_code(code) && code != RETORT_FAILED ? code : RETORT_RANK,
                "mpirun ended the ranks with code %d and named none of them%s%s%s%s", code,
                e->relay->banner[0] ? "" : ", as when INT, TERM or HUP is sent to mpirun itself",
                last, more, remedy(e));
}

int ending_report(const struct ending *e)
{
    const struct relay *r = e->relay;
    if (e->killed) {
        (void)FAIL(RETORT_RANK,
                   "ended at once by signal %d; what came after the last checkpoint is lost",
                   e->killed);
        return 128 + e->killed;
    }
    int code = WIFEXITED(e->status) ? WEXITSTATUS(e->status) : 128 + WTERMSIG(e->status);
    // Asked to stop before it listened: nothing was done yet that could be lost.
    if (e->stop && (r->dead_signal == SIGUSR1 || code == 128 + SIGUSR1))
        return RETORT_STOPPED;
    if (code == RETORT_OK)
        return RETORT_OK;
    // One that has said what is wrong may not live to leave: with no memory, MPI itself crashes.
    int said = r->error_seen ? left_with(e, r->error_rank, RETORT_OK) : RETORT_OK;
    if (r->dead_rank >= 0)
        return said && r->dead_rank == r->error_rank ? said : report_death(e);
    if (WIFSIGNALED(e->status))
        return report_mpirun_death(e);
    if (is_worker_code(code) && (r->error_seen || code == RETORT_STOPPED))
        return said ? said : code;
    if (r->exit_rank >= 0)
        return report_silence(e);
    if (code > 128) // so soon that mpirun does not know which
        return FAIL(RETORT_RANK, "a rank was ended by signal %d (%s) right after its start",
                    code - 128, strsignal(code - 128));
    return report_mpirun(e, code);
}
