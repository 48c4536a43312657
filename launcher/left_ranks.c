#include "launcher/left_ranks.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/rank_state.h"
#include "launcher/process.h"

static const double END_AFTER_KILL_S = 5; // a process in the middle of a disk access takes a while

// A rank keeps its state file open: what has it open is that rank, whatever its pid was used for
// since.
static bool has_open(pid_t pid, const char *path)
{
    char folder[64];
    struct stat wanted, found;
    bool has = false;
    (void)snprintf(folder, sizeof folder, "/proc/%ld/fd", (long)pid);
    DIR *entries = stat(path, &wanted) == 0 ? opendir(folder) : NULL;
    if (!entries)
        return false;
    for (struct dirent *e; !has && (e = readdir(entries)) != NULL;)
        has = fstatat(dirfd(entries), e->d_name, &found, 0) == 0 && found.st_dev == wanted.st_dev &&
              found.st_ino == wanted.st_ino;
    (void)closedir(entries);
    return has;
}

static bool end_rank(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int64_t ticks = process_start_ticks(pid);
    double start = clock_seconds();
    if (ticks < 0 || kill(pid, SIGKILL) != 0)
        return false;
    while (process_start_ticks(pid) == ticks && clock_seconds() - start < END_AFTER_KILL_S)
        nanosleep(&pause, NULL);
    return true;
}

void left_ranks_end(const char *folder)
{
    char ranks[PATH_CAPACITY], name[32], path[PATH_CAPACITY];
    struct rank_state s = {.size = 1};
    int ended = 0;
    if (path_join(ranks, folder, "ranks") != RETORT_OK)
        return;
    for (int r = 0; r < s.size; r++) {
        (void)snprintf(name, sizeof name, "%d.state", r);
        if (path_join(path, ranks, name) != RETORT_OK || state_read(&s, ranks, r) != RETORT_OK)
            return;
        if (s.pid > 1 && s.exit_code < 0 && has_open((pid_t)s.pid, path))
            ended += end_rank((pid_t)s.pid);
    }
    if (ended > 0)
        log_info("ended %d rank%s that an earlier start had left behind", ended,
                 ended == 1 ? "" : "s");
}
