// kill_at [-n] FOLDER PHASE STEP [PHASE STEP]…: waits until rank 0 of the run in FOLDER is in a
// phase that begins with PHASE, at STEP or later (-1: at any moment), then in the next, and so on;
// then kills all ranks (-n: only waits). Exits with 1 when the run ended before.

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "comm/rank_state.h"

static const double DEADLINE_S = 60;
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

static int kill_ranks(const char *ranks, int size)
{
    int killed = 0;
    for (int r = 0; r < size; r++) {
        struct rank_state s;
        if (state_read(&s, ranks, r) == 0 && s.pid > 1)
            killed += kill((pid_t)s.pid, SIGKILL) == 0;
    }
    return killed;
}

int main(int argc, char **argv)
{
    bool only_wait = argc > 1 && strcmp(argv[1], "-n") == 0;
    char ranks[PATH_CAPACITY];
    struct rank_state s = {0};
    argv += only_wait;
    argc -= only_wait;
    if (argc < 4 || argc % 2 != 0 || path_join(ranks, argv[1], "ranks") != 0)
        return 2;
    for (int i = 2; i < argc; i += 2)
        if (!wait_for(ranks, argv[i], strtoll(argv[i + 1], NULL, 10), &s))
            return 1;
    int killed = only_wait ? 0 : kill_ranks(ranks, s.size);
    printf("%s at %s step %lld (%d of %d ranks)\n", only_wait ? "seen" : "killed", s.phase,
           (long long)s.step, killed, s.size);
    return only_wait || killed == s.size ? 0 : 1;
}
