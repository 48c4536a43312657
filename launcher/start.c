#include "launcher/start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/process.h"
#include "launcher/relay.h"
#include "launcher/signals.h"
#include "launcher/start_command.h"

static const double MPIRUN_GRACE_S = 3;   // to end by itself once its ranks are killed
static const double FAILED_GRACE_S = 20;  // and once one of them has failed
static const double LEFTOVER_GRACE_S = 3; // orphaned ranks end by themselves in about 2.6 s

struct launch {
    const struct start *start; // borrowed
    pid_t mpirun;
    int signals; // signalfd
    int errors;  // mpirun's stderr
    int status;  // of mpirun, as waitpid gives it
    bool ended;
    int stop;        // the signal that asked for an end, or 0
    int killed;      // the signal that ended all at once, or 0
    double killed_s; // when
    bool lost;       // the run folder, to another launcher
    double failed_s; // when a rank was first seen to fail, or 0
    bool given_up;   // mpirun, which did not end then
    struct relay relay;
    struct process_list spare; // children that are none of ours
};

// In the child: never returns. What goes wrong travels as an errno through `report`.
static _Noreturn void become_mpirun(const struct start_command *command, pid_t launcher, int errors,
                                    int report)
{
    sigset_t set;
    signals_of_launcher(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    setpgid(0, 0);
    // mpirun ends its ranks on TERM: they do not outlive a launcher that was killed.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != launcher)
        _exit(RETORT_RANK);
    int nothing =
        open("/dev/null", O_RDONLY); // a background group that reads a terminal is stopped
    if (nothing >= 0)
        dup2(nothing, STDIN_FILENO);
    dup2(errors, STDERR_FILENO);
    if (geteuid() == 0) { // containers run as root
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    execvp(command->words[0], command->words);
    int why = errno;
    ssize_t written = write(report, &why, sizeof why);
    _exit(written == sizeof why ? RETORT_FAILED : RETORT_RANK);
}

static int spawn(struct launch *l, const struct start_command *command)
{
    int errors[2], report[2], why = 0;
    pid_t self = getpid();
    if (pipe2(errors, O_CLOEXEC) != 0)
        return FAIL(RETORT_FAILED, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(report, O_CLOEXEC) != 0) {
        close(errors[0]);
        close(errors[1]);
        return FAIL(RETORT_FAILED, "cannot make a pipe: %s", strerror(errno));
    }
    fflush(NULL);
    l->mpirun = fork();
    if (l->mpirun == 0)
        become_mpirun(command, self, errors[1], report[1]);
    if (l->mpirun < 0)
        why = errno;
    close(errors[1]);
    close(report[1]);
    l->errors = errors[0];
    // Ends at exec, without a byte when that went well.
    if (l->mpirun > 0 && read(report[0], &why, sizeof why) == sizeof why)
        waitpid(l->mpirun, NULL, 0);
    close(report[0]);
    if (why)
        return FAIL(RETORT_FAILED, "cannot start %s: %s; is Open MPI installed (openmpi-bin)?",
                    command->words[0], strerror(why));
    setpgid(l->mpirun, l->mpirun);
    return RETORT_OK;
}

// Kills the ranks of this host. mpirun is given the time to end those of others and to clear away
// its shared memory.
static void end_at_once(struct launch *l, int signal_number)
{
    struct process_list ranks;
    process_children(&ranks, l->mpirun);
    for (int i = 0; i < ranks.count; i++)
        kill(ranks.pids[i], SIGKILL);
    kill(l->mpirun, SIGTERM);
    if (!l->killed)
        l->killed_s = clock_seconds();
    l->killed = signal_number;
}

// The first signal asks the ranks to checkpoint and leave; a second INT or TERM ends them.
static void on_signal(struct launch *l, int signal_number)
{
    if (signal_number == SIGCHLD)
        return;
    bool again = l->stop != 0 && signal_number != SIGUSR1;
    if (again || !l->start->run_folder) {
        end_at_once(l, signal_number);
        return;
    }
    if (!l->stop)
        l->stop = signal_number;
    if (signal_number == SIGINT || signal_number == SIGTERM)
        log_info("stopping: the ranks write a checkpoint and leave (again to end them at once)");
    kill(l->mpirun, SIGUSR1);
}

static void read_signals(struct launch *l)
{
    struct signalfd_siginfo info;
    while (read(l->signals, &info, sizeof info) == sizeof info)
        on_signal(l, (int)info.ssi_signo);
}

// What is there now; false at the end of the pipe.
static bool read_errors(struct launch *l)
{
    char bytes[4096];
    ssize_t count;
    while ((count = read(l->errors, bytes, sizeof bytes)) > 0)
        relay_feed(&l->relay, bytes, (size_t)count);
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

static void beat(struct launch *l)
{
    if (!l->lost && !owner_refresh(l->start->owner)) {
        l->lost = true;
        end_at_once(l, SIGTERM);
    }
}

// When a rank fails, mpirun ends the others within seconds; but for a host that it cannot reach any
// more it waits, with all of them.
static void end_if_stuck(struct launch *l)
{
    const struct relay *r = &l->relay;
    double now = clock_seconds();
    if (!r->error_seen && r->dead_rank < 0 && r->exit_rank < 0)
        return;
    if (l->failed_s == 0)
        l->failed_s = now;
    double late = now - l->failed_s - FAILED_GRACE_S;
    if (late < 0)
        return;
    l->given_up = true;
    kill(-l->mpirun, late > MPIRUN_GRACE_S ? SIGKILL : SIGTERM);
}

static void wait_for_end(struct launch *l)
{
    bool open = true;
    double last_beat = clock_seconds();
    while (!l->ended) {
        struct pollfd watched[] = {{.fd = l->signals, .events = POLLIN},
                                   {.fd = open ? l->errors : -1, .events = POLLIN}};
        poll(watched, 2, l->killed ? 100 : OWNER_BEAT_S * 1000 / 4);
        read_signals(l);
        if (open)
            open = read_errors(l);
        if (l->killed && clock_seconds() - l->killed_s > MPIRUN_GRACE_S)
            kill(-l->mpirun, SIGKILL);
        if (!l->killed)
            end_if_stuck(l);
        l->ended = waitpid(l->mpirun, &l->status, WNOHANG) == l->mpirun;
        if (l->start->owner && clock_seconds() - last_beat >= OWNER_BEAT_S) {
            beat(l);
            last_beat = clock_seconds();
        }
    }
    if (open)
        read_errors(l);
    relay_end(&l->relay);
    if (l->given_up)
        l->status = W_EXITCODE(RETORT_RANK, 0); // the rank's failure is what counts
}

static int open_log(const struct start *s, const struct start_command *command)
{
    char path[PATH_CAPACITY];
    if (!s->run_folder || path_join(path, s->run_folder, "mpirun.log") != RETORT_OK)
        return -1;
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    for (int i = 0; log >= 0 && i < command->count; i++)
        dprintf(log, "%s%s", command->words[i], i + 1 < command->count ? " " : "\n");
    return log;
}

int start_print(const struct start *s)
{
    struct start_command command;
    int rc = start_command_build(&command, s);
    if (rc == RETORT_OK)
        start_command_print(&command);
    return rc;
}

// Another run's launcher took us for dead: the machine slept, or its network was gone.
static void judge_lost(struct verdict *v, const char *run_folder)
{
    if (v->said && v->code == RETORT_BUSY)
        return; // a rank saw it first
    v->code = RETORT_BUSY;
    v->remedy = "";
    v->said = false;
    snprintf(v->cause, sizeof v->cause,
             "%.2000s was taken by another run while this one did not answer; this one ends",
             run_folder);
}

void start_run(const struct start *s, struct verdict *v)
{
    struct start_command command;
    struct launch l = {.start = s, .signals = -1, .errors = -1};
    sigset_t set, before;
    bool listens = false;
    int log = -1, rc;
    *v = (struct verdict){.rank = -1, .remedy = ""};
    TRY(start_command_build(&command, s));
    log = open_log(s, &command);
    relay_init(&l.relay, log);
    process_adopt_orphans();
    process_children(&l.spare, getpid());
    signals_of_launcher(&set);
    listens = sigprocmask(SIG_BLOCK, &set, &before) == 0;
    TRY_ELSE((l.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) >= 0, RETORT_FAILED,
             "cannot listen to signals: %s", strerror(errno));
    TRY(spawn(&l, &command));
    fcntl(l.errors, F_SETFL, O_NONBLOCK);
    wait_for_end(&l);
    bool at_once = l.killed || WIFSIGNALED(l.status); // no mpirun is left to end its ranks
    int left = process_end_children(&l.spare, at_once ? 0 : LEFTOVER_GRACE_S);
    if (left > 0 && !at_once)
        log_warn("%d process%s of the run had to be killed", left, left == 1 ? "" : "es");
    const struct ending ending = {.relay = &l.relay,
                                  .run_folder = s->run_folder,
                                  .status = l.status,
                                  .stop = l.stop,
                                  .killed = l.killed};
    ending_judge(v, &ending);
    if (l.lost)
        judge_lost(v, s->run_folder);
fail:
    if (rc != RETORT_OK)
        v->code = rc; // and the line is printed
    if (l.errors >= 0)
        close(l.errors);
    if (l.signals >= 0)
        close(l.signals);
    if (log >= 0)
        close(log);
    if (listens)
        sigprocmask(SIG_SETMASK, &before, NULL);
}

int start_ranks(const struct start *s)
{
    struct verdict v;
    start_run(s, &v);
    return verdict_say(&v);
}

int start_alone(const char *const *arguments)
{
    char worker[PATH_CAPACITY];
    size_t count = 0;
    int rc = start_worker_path(worker);
    if (rc != RETORT_OK)
        return rc;
    while (arguments[count])
        count++;
    char **words = calloc(count + 2, sizeof *words);
    if (!words)
        return FAIL(RETORT_MEMORY, "no memory for a command line");
    words[0] = worker;
    memcpy(words + 1, arguments, count * sizeof *words);
    fflush(NULL);
    execv(worker, words);
    free(words);
    return FAIL(RETORT_FAILED, "cannot start %s: %s", worker, strerror(errno));
}
