#include "launcher/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "launcher/process.h"

static void get_text(const json_t *root, const char *key, char out[OWNER_NAME])
{
    const char *text = json_string_value(json_object_get(root, key));
    snprintf(out, OWNER_NAME, "%s", text ? text : "");
}

static int64_t get_number(const json_t *root, const char *key)
{
    return (int64_t)json_number_value(json_object_get(root, key));
}

bool owner_read(struct owner *out, const char *folder)
{
    *out = (struct owner){0};
    if (path_join(out->path, folder, "owner.json") != RETORT_OK)
        return false;
    json_t *root = json_load_file(out->path, 0, NULL);
    get_text(root, "host", out->host);
    get_text(root, "job", out->job);
    out->pid = get_number(root, "pid");
    out->start_ticks = get_number(root, "start_ticks");
    out->started = get_number(root, "started");
    out->beat = get_number(root, "beat");
    json_decref(root);
    return out->pid > 0 && out->host[0];
}

static void host_name(char out[OWNER_NAME])
{
    if (gethostname(out, OWNER_NAME) != 0)
        snprintf(out, OWNER_NAME, "localhost");
    out[OWNER_NAME - 1] = '\0';
}

bool owner_is_here(const struct owner *o)
{
    char host[OWNER_NAME];
    host_name(host);
    return strcmp(host, o->host) == 0;
}

bool owner_is_alive(const struct owner *o)
{
    if (owner_is_here(o))
        return process_start_ticks((pid_t)o->pid) == o->start_ticks;
    return time(NULL) - o->beat < OWNER_STALE_S;
}

int owner_check(const char *folder)
{
    struct owner other;
    if (!owner_read(&other, folder) || !owner_is_alive(&other))
        return RETORT_OK;
    return FAIL(RETORT_BUSY,
                "%s is in use by a living run (host %s, pid %lld%s%s); \"retort stop %s\" ends it "
                "after a checkpoint, or name another folder with --out",
                folder, other.host, (long long)other.pid, other.job[0] ? ", job " : "", other.job,
                folder);
}

static char *owner_text(const struct owner *o)
{
    json_t *root =
        json_pack("{s:s, s:I, s:I, s:s, s:I, s:I}", "host", o->host, "pid", (json_int_t)o->pid,
                  "start_ticks", (json_int_t)o->start_ticks, "job", o->job, "started",
                  (json_int_t)o->started, "beat", (json_int_t)o->beat);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return text;
}

// Creates the file unless it is there, whole at once; false with errno.
static bool create_exclusively(const struct owner *o, const char *text)
{
    char partial[PATH_CAPACITY];
    if (partial_path(partial, o->path) != RETORT_OK)
        return false;
    FILE *file = fopen(partial, "we");
    bool written = file && fputs(text, file) >= 0;
    written = file && fclose(file) == 0 && written;
    bool linked = written && link(partial, o->path) == 0;
    int why = errno;
    unlink(partial);
    errno = why;
    return linked;
}

// Another launcher may have taken the dead owner's place in the same moment: the last one wins.
static int take_over(struct owner *o, const char *folder, const char *text)
{
    const struct timespec settle = {.tv_nsec = 200000000};
    struct owner winner;
    int rc = file_write_whole(o->path, text, strlen(text));
    if (rc != RETORT_OK)
        return rc;
    nanosleep(&settle, NULL);
    if (owner_read(&winner, folder) && winner.pid == o->pid && strcmp(winner.host, o->host) == 0)
        return RETORT_OK;
    return FAIL(RETORT_BUSY, "%s was taken by another run (host %s, pid %lld) in this moment",
                folder, winner.host, (long long)winner.pid);
}

int owner_take(struct owner *o, const char *folder)
{
    const char *job = getenv("SLURM_JOB_ID");
    *o = (struct owner){.pid = getpid(), .started = time(NULL), .beat = time(NULL)};
    o->start_ticks = process_start_ticks(getpid());
    host_name(o->host);
    snprintf(o->job, sizeof o->job, "%s", job ? job : "");
    int rc = path_join(o->path, folder, "owner.json");
    char *text = owner_text(o);
    if (rc == RETORT_OK && !text)
        rc = FAIL(RETORT_MEMORY, "no memory for %s", o->path);
    // File systems without hard links fail with other errors; a rename serves there.
    if (rc == RETORT_OK && !create_exclusively(o, text)) {
        rc = owner_check(folder);
        if (rc == RETORT_OK)
            rc = take_over(o, folder, text);
    }
    if (rc != RETORT_OK)
        o->path[0] = '\0';
    free(text);
    return rc;
}

void owner_refresh(struct owner *o)
{
    char partial[PATH_CAPACITY];
    o->beat = time(NULL);
    char *text = owner_text(o);
    if (text && partial_path(partial, o->path) == RETORT_OK) {
        FILE *file = fopen(partial, "we");
        bool written = file && fputs(text, file) >= 0;
        written = file && fclose(file) == 0 && written;
        if (!written || rename(partial, o->path) != 0)
            unlink(partial);
    }
    free(text);
}

void owner_release(struct owner *o)
{
    if (o->path[0])
        unlink(o->path);
    o->path[0] = '\0';
}
