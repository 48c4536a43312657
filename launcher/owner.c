#include "launcher/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "launcher/process.h"

static void get_text(const json_t *root, const char *key, char *out, size_t out_bytes)
{
    const char *text = json_string_value(json_object_get(root, key));
    snprintf(out, out_bytes, "%s", text ? text : "");
}

static int64_t get_number(const json_t *root, const char *key)
{
    return (int64_t)json_number_value(json_object_get(root, key));
}

static double seconds_of(struct timespec t)
{
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool owner_read(struct owner *out, const char *folder)
{
    struct stat info;
    *out = (struct owner){0};
    if (path_join(out->path, folder, "owner.json") != RETORT_OK)
        return false;
    int file = open(out->path, O_RDONLY | O_CLOEXEC); // NFS looks at its server then
    if (file < 0)
        return false;
    json_t *root = json_loadfd(file, 0, NULL);
    if (fstat(file, &info) == 0)
        out->age_s = (double)time(NULL) - seconds_of(info.st_mtim);
    close(file);
    get_text(root, "token", out->token, sizeof out->token);
    get_text(root, "host", out->host, sizeof out->host);
    get_text(root, "machine", out->machine, sizeof out->machine);
    get_text(root, "job", out->job, sizeof out->job);
    out->pid = get_number(root, "pid");
    out->start_ticks = get_number(root, "start_ticks");
    out->job_start = get_number(root, "job_start");
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

// "<boot id> pid:[4026531836]": hosts may share a name, and containers a host.
static void machine_name(char out[OWNER_NAME])
{
    char boot[64] = "", namespace[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file && !fgets(boot, sizeof boot, file))
        boot[0] = '\0';
    if (file)
        fclose(file);
    boot[strcspn(boot, "\n")] = '\0';
    ssize_t length = readlink("/proc/self/ns/pid", namespace, sizeof namespace - 1);
    namespace[length > 0 ? length : 0] = '\0';
    snprintf(out, OWNER_NAME, "%s %s", boot, namespace);
}

bool owner_is_here(const struct owner *o)
{
    char machine[OWNER_NAME];
    machine_name(machine);
    return strcmp(machine, o->machine) == 0;
}

bool owner_is_alive(const struct owner *o)
{
    if (owner_is_here(o))
        return process_start_ticks((pid_t)o->pid) == o->start_ticks;
    return o->age_s < OWNER_STALE_S;
}

// A new file is as old as its file system's clock says now.
double owner_file_age(const char *folder, const char *path)
{
    char probe[PATH_CAPACITY], name[64];
    struct stat now, then;
    snprintf(name, sizeof name, "clock.%ld.partial", (long)getpid());
    if (stat(path, &then) != 0)
        return 0;
    double now_s = (double)time(NULL);
    int file = path_join(probe, folder, name) == RETORT_OK
                   ? open(probe, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                   : -1;
    if (file >= 0 && write(file, "\n", 1) == 1 && fsync(file) == 0 && fstat(file, &now) == 0)
        now_s = seconds_of(now.st_mtim);
    if (file >= 0) {
        close(file);
        unlink(probe);
    }
    return now_s - seconds_of(then.st_mtim);
}

static int64_t job_start(void)
{
    const char *count = getenv("SLURM_RESTART_COUNT");
    return count ? strtoll(count, NULL, 10) : 0;
}

// Slurm starts a job again after it has given up the nodes of its earlier start; what still lives
// there, cut off from everything, ends by itself.
static bool is_given_up(const struct owner *o)
{
    const char *job = getenv("SLURM_JOB_ID");
    return job && *job && strcmp(job, o->job) == 0 && o->job_start < job_start();
}

int owner_check(const char *folder)
{
    struct owner other;
    if (!owner_read(&other, folder) || is_given_up(&other))
        return RETORT_OK;
    if (!owner_is_here(&other))
        other.age_s = owner_file_age(folder, other.path);
    if (!owner_is_alive(&other))
        return RETORT_OK;
    return FAIL(RETORT_BUSY,
                "%s is in use by a living run (host %s, pid %lld%s%s); \"retort stop %s\" ends it "
                "after a checkpoint, or name another folder with --out",
                folder, other.host, (long long)other.pid, other.job[0] ? ", job " : "", other.job,
                folder);
}

void owner_name_self(struct owner *o)
{
    const char *job = getenv("SLURM_JOB_ID");
    uint64_t random[2] = {0};
    *o = (struct owner){.pid = getpid(), .started = time(NULL), .beat = time(NULL)};
    o->start_ticks = process_start_ticks(getpid());
    o->job_start = job_start();
    host_name(o->host);
    machine_name(o->machine);
    snprintf(o->job, sizeof o->job, "%s", job ? job : "");
    if (getrandom(random, sizeof random, 0) != sizeof random)
        random[0] = (uint64_t)o->pid << 32 ^ (uint64_t)o->started; // and the host's name beside it
    snprintf(o->token, sizeof o->token, "%016llx%016llx", (unsigned long long)random[0],
             (unsigned long long)random[1]);
}

char *owner_text(const struct owner *o)
{
    json_t *root =
        json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:s, s:s}", "host", o->host, "pid",
                  (json_int_t)o->pid, "start_ticks", (json_int_t)o->start_ticks, "job", o->job,
                  "job_start", (json_int_t)o->job_start, "started", (json_int_t)o->started, "beat",
                  (json_int_t)o->beat, "machine", o->machine, "token", o->token);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return text;
}

// What cannot be read now, as on a network file system that does not answer, may still be ours.
static bool is_lost(const struct owner *o)
{
    char folder[PATH_CAPACITY];
    struct owner now;
    snprintf(folder, sizeof folder, "%s", o->path);
    *strrchr(folder, '/') = '\0';
    if (owner_read(&now, folder))
        return strcmp(now.token, o->token) != 0;
    return access(o->path, F_OK) != 0 && errno == ENOENT;
}

void owner_partial(char out[PATH_CAPACITY + OWNER_TOKEN], const char *path, const struct owner *o)
{
    snprintf(out, PATH_CAPACITY + OWNER_TOKEN, "%s.%.8s.partial", path, o->token);
}

bool owner_refresh(struct owner *o)
{
    char partial[PATH_CAPACITY + OWNER_TOKEN];
    if (is_lost(o))
        return false;
    o->beat = time(NULL);
    char *text = owner_text(o);
    owner_partial(partial, o->path, o);
    if (text) {
        FILE *file = fopen(partial, "we");
        bool written = file && fputs(text, file) >= 0;
        written = file && fclose(file) == 0 && written;
        if (!written || rename(partial, o->path) != 0)
            unlink(partial);
    }
    free(text);
    return true;
}

void owner_release(struct owner *o)
{
    if (o->path[0] && !is_lost(o))
        unlink(o->path);
    o->path[0] = '\0';
}
