#include "data/leftovers.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

// The pid in "<name>.<pid>.partial"; 0 when it is no such name.
static long writer_pid(const char *name)
{
    static const char ENDING[] = ".partial";
    size_t length = strlen(name), ending = sizeof ENDING - 1;
    if (length <= ending || strcmp(name + length - ending, ENDING) != 0)
        return 0;
    size_t digits = length - ending;
    while (digits > 0 && isdigit((unsigned char)name[digits - 1]))
        digits--;
    if (digits == 0 || name[digits - 1] != '.')
        return 0;
    return strtol(name + digits, NULL, 10);
}

// A container may give the pid of a killed writer to the one that follows: this process.
static bool is_dead(long pid)
{
    return pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

void leftovers_remove(const char *folder, const char *prefix)
{
    char path[PATH_CAPACITY];
    DIR *entries = opendir(folder);
    if (!entries)
        return;
    for (struct dirent *e; (e = readdir(entries)) != NULL;) {
        long pid = writer_pid(e->d_name);
        if (pid > 0 && strncmp(e->d_name, prefix, strlen(prefix)) == 0 && is_dead(pid) &&
            path_join(path, folder, e->d_name) == RETORT_OK)
            (void)unlink(path);
    }
    (void)closedir(entries);
}
