// A library for LD_PRELOAD that ends a run at one exact call.
//
//   RETORT_DIE_AT="CALL GLOB COUNT WHEN WHO"
//
// CALL is write (pwrite too), fsync, rename, link or unlink of a path that GLOB matches (rename and
// link: the new name), or send (MPI_Isend), whose GLOB is `bytes` or `reals`. WHEN is before the
// COUNT-th such call of a process, after it, or half (a write writes its first half). WHO is
// killed: `one`, the process that calls; `all`, its launcher, its mpirun and every rank too.

#include <dlfcn.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/family.h"
#include "tests/worker/preload.h"

static struct {
    char call[16], glob[256], when[16], who[16];
    int count; // calls that are still to come; 0 when nothing is asked for
} wanted;

__attribute__((constructor)) static void read_wish(void)
{
    const char *text = getenv("RETORT_DIE_AT");
    if (text && sscanf(text, "%15s %255s %d %15s %15s", wanted.call, wanted.glob, &wanted.count,
                       wanted.when, wanted.who) != 5) {
        fprintf(stderr, "die_at: cannot read RETORT_DIE_AT=%s\n", text);
        abort();
    }
}

static _Noreturn void die(void)
{
    if (strcmp(wanted.who, "all") == 0 && getenv("OMPI_COMM_WORLD_RANK"))
        kill_family(getpid());
    (void)kill(getpid(), SIGKILL);
    abort();
}

// True in the call that was asked for.
static bool is_it(const char *call, const char *path)
{
    return wanted.count > 0 && strcmp(call, wanted.call) == 0 &&
           fnmatch(wanted.glob, path, 0) == 0 && --wanted.count == 0;
}

static bool is_it_open(const char *call, int fd)
{
    char path[PATH_MAX];
    if (wanted.count == 0 || strcmp(call, wanted.call) != 0)
        return false;
    preload_path(fd, path, sizeof path);
    return is_it(call, path);
}

static void before(bool it)
{
    if (it && strcmp(wanted.when, "before") == 0)
        die();
}

static void after(bool it)
{
    if (it)
        die();
}

static size_t part(bool it, size_t bytes)
{
    return it && strcmp(wanted.when, "half") == 0 ? bytes / 2 : bytes;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    ssize_t (*real)(int, const void *, size_t);
    *(void **)&real = preload_next("write");
    bool it = is_it_open("write", fd);
    before(it);
    ssize_t put = real(fd, data, part(it, bytes));
    after(it);
    return put;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t);
    *(void **)&real = preload_next("pwrite");
    bool it = is_it_open("write", fd);
    before(it);
    ssize_t put = real(fd, data, part(it, bytes), at);
    after(it);
    return put;
}

// Nothing is flushed: a killed process loses nothing that the system holds, and on a busy disk
// flushing is most of such a run. What a power failure loses is tests/data/test_power_loss.c.
int fsync(int fd)
{
    bool it = is_it_open("fsync", fd);
    before(it);
    after(it);
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static int two_names(const char *call, const char *from, const char *to)
{
    int (*real)(const char *, const char *);
    *(void **)&real = preload_next(call);
    bool it = is_it(call, to);
    before(it);
    int rc = real(from, to);
    after(it);
    return rc;
}

int rename(const char *from, const char *to)
{
    return two_names("rename", from, to);
}

int link(const char *from, const char *to)
{
    return two_names("link", from, to);
}

int unlink(const char *path)
{
    int (*real)(const char *);
    *(void **)&real = preload_next("unlink");
    bool it = is_it("unlink", path);
    before(it);
    int rc = real(path);
    after(it);
    return rc;
}

// Open MPI's handles are pointers.
int MPI_Isend(const void *data, int count, void *type, int to, int tag, void *comm, void **request);
int MPI_Isend(const void *data, int count, void *type, int to, int tag, void *comm, void **request)
{
    int (*real)(const void *, int, void *, int, int, void *, void **);
    *(void **)&real = preload_next("MPI_Isend");
    bool it = is_it("send", type == dlsym(RTLD_DEFAULT, "ompi_mpi_byte") ? "bytes" : "reals");
    before(it);
    int rc = real(data, count, type, to, tag, comm, request);
    after(it);
    return rc;
}
