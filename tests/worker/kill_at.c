// kill_at [-n] [-d MS] [-s SIGNAL] [-w WHO] FOLDER PHASE STEP [PHASE STEP]…: waits until rank 0 of
// the run in FOLDER is in a phase that begins with PHASE, at STEP or later (-1: at any moment),
// then in the next, and so on, and MS milliseconds more; then kills all ranks (-n: only waits; -s:
// sends ranks that signal). WHO is ranks, rank (the last one alone), first (rank 0 alone), mpirun,
// launcher (each alone) or all (them and the ranks). Exits with 1 when the run ended before.

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "comm/rank_state.h"
#include "tests/worker/family.h"

static const double DEADLINE_S = 500; // CTest ends a test after 600
enum { POLL_US = 300 };

// True once the rank is there; false when it ended, or never came.
static bool wait_for(const char *ranks, const char *phase, long long step, struct rank_state *s)
{
    double start = clock_seconds();
    while (clock_seconds() - start < DEADLINE_S) {
        if (state_read(s, ranks, 0) == 0) {
            if (strncmp(s->phase, phase, strlen(phase)) == 0 && s->step >= step)
                return true;
            if (s->exit_code >= 0)
                break;
        }
        (void)usleep(POLL_US);
    }
    fprintf(stderr, "kill_at: the run never came to %s step %lld; last seen: %s step %lld\n", phase,
            step, s->phase, (long long)s->step);
    return false;
}

// Ranks [first, last); how many of them lived.
static int signal_ranks(const char *ranks, int first, int last, int signal_number)
{
    int reached = 0;
    for (int r = first; r < last; r++) {
        struct rank_state s;
        if (state_read(&s, ranks, r) == 0 && s.pid > 1)
            reached += kill((pid_t)s.pid, signal_number) == 0;
    }
    return reached;
}

static bool end_them(const char *who, const char *ranks, const struct rank_state *s,
                     int signal_number)
{
    pid_t mpirun = parent_of((pid_t)s->pid);
    if (strcmp(who, "ranks") == 0) // some may not have come far enough to be found
        return signal_ranks(ranks, 0, s->size, signal_number) > 0;
    if (strcmp(who, "rank") == 0)
        return signal_ranks(ranks, s->size - 1, s->size, signal_number) == 1;
    if (strcmp(who, "first") == 0)
        return signal_ranks(ranks, 0, 1, signal_number) == 1;
    if (mpirun <= 1)
        return false;
    if (strcmp(who, "all") == 0)
        kill_family((pid_t)s->pid);
    else
        return kill(strcmp(who, "mpirun") == 0 ? mpirun : parent_of(mpirun), SIGKILL) == 0;
    return true;
}

int main(int argc, char **argv)
{
    bool only_wait = false;
    const char *who = "ranks";
    char ranks[PATH_CAPACITY];
    long delay_ms = 0, signal_number = SIGKILL;
    struct rank_state s = {0};
    for (int option; (option = getopt(argc, argv, "+nd:s:w:")) != -1;) {
        only_wait |= option == 'n';
        if (option == 'd')
            delay_ms = strtol(optarg, NULL, 10);
        if (option == 's')
            signal_number = strtol(optarg, NULL, 10);
        if (option == 'w')
            who = optarg;
    }
    argv += optind;
    argc -= optind;
    if (argc < 3 || argc % 2 != 1 || path_join(ranks, argv[0], "ranks") != 0)
        return 2;
    for (int i = 1; i < argc; i += 2)
        if (!wait_for(ranks, argv[i], strtoll(argv[i + 1], NULL, 10), &s))
            return 1;
    (void)usleep((useconds_t)(1000 * delay_ms));
    if (state_read(&s, ranks, 0) != 0 || s.exit_code >= 0)
        return 1;
    bool done = only_wait || end_them(who, ranks, &s, (int)signal_number);
    (void)state_read(&s, ranks, 0); // where it was when it ended
    printf("%s %s at %s step %lld of %d ranks\n", only_wait ? "saw" : "killed", who, s.phase,
           (long long)s.step, s.size);
    return done ? 0 : 1;
}
