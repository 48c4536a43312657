#include "launcher/probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static const double PROBE_S = 30, PROBE_GRACE_S = 5;

// In the child: never returns.
static _Noreturn void become_srun(const char *worker, int nodes, int ranks, int errors)
{
    char node_count[16], rank_count[16];
    int nothing = open("/dev/null", O_RDWR);
    (void)snprintf(node_count, sizeof node_count, "%d", nodes);
    (void)snprintf(rank_count, sizeof rank_count, "%d", ranks);
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO);
        dup2(nothing, STDOUT_FILENO);
    }
    dup2(errors, STDERR_FILENO);
    setenv("RETORT_RANKS", rank_count, 1);
    execlp("srun", "srun", "--mpi=pmix", "--export=ALL", "--overcommit", "--nodes", node_count,
           "--ntasks", rank_count, worker, "probe", (char *)NULL);
    (void)fputs("srun is not in the PATH\n", stderr);
    _exit(127);
}

// Keeps the last line that has letters.
static void keep_last(char *said, size_t said_bytes, char *text)
{
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        line += strspn(line, " -");
        if (*line)
            (void)snprintf(said, said_bytes, "%s", line);
    }
}

// Reads what srun says until it ends or the time is over.
static void listen(int errors, double end_s, char *said, size_t said_bytes)
{
    char text[4096];
    for (;;) {
        double left = end_s - clock_seconds();
        struct pollfd watched = {.fd = errors, .events = POLLIN};
        if (left <= 0 || poll(&watched, 1, (int)(left * 1000) + 1) <= 0)
            return;
        ssize_t count = read(errors, text, sizeof text - 1);
        if (count <= 0)
            return;
        text[count] = '\0';
        keep_last(said, said_bytes, text);
    }
}

static int end_of(pid_t pid, double end_s)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    int status = -1;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_seconds() > end_s + PROBE_GRACE_S)
            kill(pid, SIGKILL);
        else if (clock_seconds() > end_s)
            kill(pid, SIGTERM);
        nanosleep(&pause, NULL);
    }
    return status;
}

bool probe_srun(const char *worker, int nodes, int ranks, char *said, size_t said_bytes)
{
    int errors[2];
    double end_s = clock_seconds() + PROBE_S;
    (void)snprintf(said, said_bytes, "no answer within %.0f s", PROBE_S);
    if (pipe2(errors, O_CLOEXEC) != 0)
        return false;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become_srun(worker, nodes, ranks, errors[1]);
    close(errors[1]);
    if (pid > 0)
        listen(errors[0], end_s, said, said_bytes);
    close(errors[0]);
    return pid > 0 && end_of(pid, end_s) == 0;
}
