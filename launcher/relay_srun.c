#include "launcher/relay_srun.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

// The signal whose description the text begins with ("Killed", "Aborted (core dumped)"), or 0.
static int signal_called(const char *text)
{
    for (int number = 1; number < SIGSYS; number++) {
        const char *name = sigdescr_np(number);
        if (name && starts_with(text, name))
            return number;
    }
    return 0;
}

// "srun: error: node2: task 3: Killed", "srun: error: node1: tasks 0-1: Exited with exit code 3":
// the first to end is the cause, the others follow from it.
static void note_end(struct relay *r, const char *line)
{
    static const char ERROR[] = "srun: error: ", CODE[] = "Exited with exit code ";
    const char *host = starts_with(line, ERROR) ? line + sizeof ERROR - 1 : NULL;
    const char *task = host ? strstr(host, ": task") : NULL;
    const char *end = task ? strstr(task + 2, ": ") : NULL;
    if (!end || r->dead_rank >= 0 || r->exit_rank >= 0)
        return;
    int rank = (int)strtol(task + strcspn(task, "0123456789"), NULL, 10);
    end += 2;
    int number = signal_called(end);
    if (starts_with(end, CODE)) {
        r->exit_rank = rank;
        r->exit_code = (int)strtol(end + sizeof CODE - 1, NULL, 10);
    } else if (number) {
        r->dead_rank = rank;
        r->dead_signal = number;
        (void)snprintf(r->dead_host, sizeof r->dead_host, "%.*s", (int)(task - host), host);
    }
}

bool relay_hears_srun(struct relay *r, const char *line)
{
    if (starts_with(line, "*** ")) // MPI's, which mpirun marks with the host and the pid
        return true;
    if (!starts_with(line, "srun: ") && !starts_with(line, "slurmstepd: "))
        return false;
    (void)snprintf(r->note, sizeof r->note, "%.*s", RELAY_TEXT - 1, line);
    note_end(r, line);
    return true;
}
