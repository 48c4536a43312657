#include "tests/worker/family.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Field 4 of the process's stat; the name in field 2 may hold blanks and brackets.
pid_t parent_of(pid_t pid)
{
    char path[64], text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    size_t bytes = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        (void)fclose(file);
    text[bytes] = '\0';
    const char *end = strrchr(text, ')');
    return end && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

static void kill_children(pid_t parent)
{
    DIR *all = opendir("/proc");
    for (struct dirent *e; all && (e = readdir(all)) != NULL;) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        if (pid > 1 && pid != getpid() && parent_of(pid) == parent)
            (void)kill(pid, SIGKILL);
    }
    if (all)
        (void)closedir(all);
}

// mpirun is stopped first: its ranks stay its children, and it ends nobody in its own way.
void kill_family(pid_t rank)
{
    pid_t mpirun = parent_of(rank), launcher = parent_of(mpirun);
    if (mpirun <= 1 || launcher <= 1)
        return;
    (void)kill(mpirun, SIGSTOP);
    (void)kill(launcher, SIGKILL);
    kill_children(mpirun);
    (void)kill(mpirun, SIGKILL);
}
