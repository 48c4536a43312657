#include "launcher/relay.h"
#include "launcher/relay_srun.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { FRAME_DASHES = 60 };
static const char ERASE_LINE[] = "\r\x1b[K";

void relay_init(struct relay *r, int log)
{
    *r = (struct relay){.log = log, .error_rank = -1, .dead_rank = -1, .exit_rank = -1};
    r->terminal = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

// "[rank 3/16 node7] error: …", or a line of ours from before the rank was known.
static bool is_ours(const char *line)
{
    return starts_with(line, "[rank ") || starts_with(line, "error: ") ||
           starts_with(line, "warning: ");
}

static bool is_frame(const char *line)
{
    size_t dashes = strspn(line, "-");
    return dashes >= FRAME_DASHES && line[dashes] == '\0';
}

// "[node7:1234] …": how Open MPI's libraries speak, in mpirun and in ranks.
static bool is_note(const char *line)
{
    const char *end = line[0] == '[' ? strchr(line, ']') : NULL;
    if (!end || end == line + 1 || !isdigit((unsigned char)end[-1]))
        return false;
    const char *c = end - 1;
    while (c > line && isdigit((unsigned char)*c))
        c--;
    // "[node7:1234]" and "[[29007,0],0] ORTE_ERROR_LOG"
    return *c == ':' || starts_with(line, "[[");
}

// "process rank 1 with PID 0 on node vm exited on signal 9 (Killed)."
static void note_death(struct relay *r, const char *line)
{
    const char *rank = strstr(line, "process rank ");
    const char *node = rank ? strstr(rank, " on node ") : NULL;
    const char *sign = node ? strstr(node, " exited on signal ") : NULL;
    if (!sign || r->dead_rank >= 0)
        return;
    node += strlen(" on node ");
    r->dead_rank = (int)strtol(rank + strlen("process rank "), NULL, 10);
    r->dead_signal = (int)strtol(sign + strlen(" exited on signal "), NULL, 10);
    snprintf(r->dead_host, sizeof r->dead_host, "%.*s", (int)(sign - node), node);
}

// "  Process name: [[2420,1],0]" and, two lines on, "  Exit code:    1".
static void note_exit(struct relay *r, const char *line)
{
    static const char NAME[] = "Process name: [", CODE[] = "Exit code:";
    const char *name = strstr(line, NAME), *comma = name ? strrchr(name, ',') : NULL;
    const char *code = strstr(line, CODE);
    if (comma && r->exit_rank < 0)
        r->exit_rank = (int)strtol(comma + 1, NULL, 10);
    if (code && r->exit_rank >= 0 && r->exit_code == 0)
        r->exit_code = (int)strtol(code + sizeof CODE - 1, NULL, 10);
}

static void note_error(struct relay *r, const char *line)
{
    static const char RANK[] = "[rank ", ERROR[] = "error: ";
    const char *error = strstr(line, ERROR);
    if (!error)
        return;
    if (!r->error_seen && starts_with(line, RANK))
        r->error_rank = (int)strtol(line + sizeof RANK - 1, NULL, 10);
    if (!r->error_seen)
        (void)snprintf(r->error, sizeof r->error, "%.*s", RELAY_TEXT - 1, error + sizeof ERROR - 1);
    r->error_seen = true;
}

static void banner_add(struct relay *r, const char *line)
{ // That a job ended because one of its processes did is said of every failure.
    r->dull = r->dull || starts_with(line, "Primary job ");
    if (r->dull)
        return;
    if (r->fresh)
        r->banner[0] = '\0';
    r->fresh = false;
    size_t used = strlen(r->banner);
    line += strspn(line, " ");
    if (*line)
        snprintf(r->banner + used, sizeof r->banner - used, "%s%s", used ? " " : "", line);
}

static void show(const struct relay *r, const char *line)
{
    char out[RELAY_LINE + sizeof ERASE_LINE + 1];
    int bytes = snprintf(out, sizeof out, "%s%s\n", r->terminal ? ERASE_LINE : "", line);
    (void)write_all(STDERR_FILENO, out, (size_t)bytes);
}

static void take_line(struct relay *r)
{
    char *line = r->line;
    line[r->used] = '\n';
    if (r->log >= 0)
        (void)write_all(r->log, line, r->used + 1);
    line[r->used] = '\0';
    r->used = 0;
    if (is_ours(line)) { // ranks are heard inside a banner too
        note_error(r, line);
        show(r, line);
    } else if (is_frame(line)) {
        r->framed = !r->framed;
        r->fresh = r->framed;
        r->dull = false;
    } else if (r->framed) {
        note_death(r, line);
        note_exit(r, line);
        banner_add(r, line);
    } else if (is_note(line)) {
        (void)snprintf(r->note, sizeof r->note, "%.*s", RELAY_TEXT - 1, line);
    } else if (!relay_hears_srun(r, line) && !starts_with(line, "mpirun: ")) {
        show(r, line);
    }
}

void relay_feed(struct relay *r, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n')
            take_line(r);
        else if (r->used < sizeof r->line - 1 && bytes[i] != '\0')
            r->line[r->used++] = bytes[i];
    }
}

void relay_end(struct relay *r)
{
    if (r->used > 0)
        take_line(r);
}
