#include "launcher/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { STAT_CAPACITY = 1024 };
static const double END_AFTER_KILL_S = 5; // a process in the middle of a disk access takes a while

struct process_stat {
    char state;
    pid_t parent;
    int64_t start_ticks;
};

// Field 3, 4 and 22 of /proc/<pid>/stat; the name in field 2 may hold blanks and brackets.
static bool read_stat(pid_t pid, struct process_stat *out)
{
    char path[64], text[STAT_CAPACITY];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = '\0';
    char *field = strrchr(text, ')');
    if (!field || !field[1])
        return false;
    field += 2;
    out->state = *field;
    for (int number = 3; number < 22; number++) {
        field = strchr(field, ' ');
        if (!field)
            return false;
        field++;
        if (number + 1 == 4)
            out->parent = (pid_t)strtol(field, NULL, 10);
    }
    out->start_ticks = strtoll(field, NULL, 10);
    return true;
}

int64_t process_start_ticks(pid_t pid)
{
    struct process_stat stat;
    if (!read_stat(pid, &stat) || stat.state == 'Z' || stat.state == 'X')
        return -1;
    return stat.start_ticks;
}

void process_adopt_orphans(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

void process_children(struct process_list *out, pid_t parent)
{
    out->count = 0;
    DIR *folder = opendir("/proc");
    if (!folder)
        return;
    struct process_stat stat;
    for (struct dirent *entry; (entry = readdir(folder)) && out->count < PROCESSES_MAX;) {
        pid_t pid =
            isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;
        if (pid > 0 && read_stat(pid, &stat) && stat.parent == parent)
            out->pids[out->count++] = pid;
    }
    closedir(folder);
}

static bool is_in(const struct process_list *list, pid_t pid)
{
    for (int i = 0; i < list->count; i++)
        if (list->pids[i] == pid)
            return true;
    return false;
}

// Reaps the dead ones and returns how many live; kills these when told.
static int living(const struct process_list *spare, bool end_them)
{
    struct process_list now;
    int count = 0;
    process_children(&now, getpid());
    for (int i = 0; i < now.count; i++) {
        if (is_in(spare, now.pids[i]) || waitpid(now.pids[i], NULL, WNOHANG) != 0)
            continue;
        count++;
        if (end_them)
            kill(now.pids[i], SIGKILL);
    }
    return count;
}

int process_end_children(const struct process_list *spare, double grace_s)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    double start = clock_seconds();
    int killed = 0;
    for (;;) {
        double waited = clock_seconds() - start;
        bool end_them = waited >= grace_s;
        int count = living(spare, end_them);
        if (count == 0 || waited > grace_s + END_AFTER_KILL_S)
            return killed;
        if (end_them && count > killed)
            killed = count;
        nanosleep(&pause, NULL);
    }
}
