// A library for LD_PRELOAD that lets one rank fail at one place of a run.
//
//   RETORT_FAIL_AT="RANK PHASE STEP HOW" [RETORT_FAIL_NOTE=FILE]
//
// The place is the first call of its kind in which the state file of rank RANK says a phase that
// begins with PHASE ('_' for a blank) at STEP or later (-1: any). HOW is
//
//   kill, stop   the rank gets KILL or STOP as it enters MPI
//   memory       from then on it gets no piece of memory of 64 kB or more: smaller ones are MPI's
//                and oneDNN's own, which they do not live without
//   disk         from then on its files take no byte more (ENOSPC)
//   read         from then on the first bit of what it reads of .h5 files is another one
//   nan          the first number that it sends next is none
//
// When that happens for the first time, FILE is made.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/worker/preload.h"

enum { SMALL_BYTES = 65536 };

static struct {
    char rank[16], phase[64], how[16];
    long long step;
    bool asked;        // of this process
    const char *state; // its state file, mapped
    size_t state_bytes;
    bool struck;
} wanted;

__attribute__((constructor)) static void read_wish(void)
{
    const char *text = getenv("RETORT_FAIL_AT"), *own = getenv("OMPI_COMM_WORLD_RANK");
    if (!text)
        return;
    if (sscanf(text, "%15s %63s %lld %15s", wanted.rank, wanted.phase, &wanted.step, wanted.how) !=
        4) {
        fprintf(stderr, "fail_at: cannot read RETORT_FAIL_AT=%s\n", text);
        abort();
    }
    for (char *c = wanted.phase; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    wanted.asked = own && strcmp(own, wanted.rank) == 0;
}

// The value of a line of the state file.
static const char *state_value(const char *key)
{
    size_t length = strlen(key);
    const char *line = memmem(wanted.state, wanted.state_bytes, key, length);
    if (!line)
        abort(); // the format has changed
    line += length;
    return line + strspn(line, " ");
}

static void note(void)
{
    const char *path = getenv("RETORT_FAIL_NOTE");
    int fd = wanted.struck || !path ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    wanted.struck = true;
    if (fd >= 0)
        close(fd);
}

// True of the place, and of all that comes after it.
static bool is_now(const char *how)
{
    if (!wanted.asked || !wanted.state || strcmp(how, wanted.how) != 0)
        return false;
    if (!wanted.struck &&
        (strncmp(state_value("\nphase "), wanted.phase, strlen(wanted.phase)) != 0 ||
         strtoll(state_value("\nstep "), NULL, 10) < wanted.step))
        return false;
    int kept = errno;
    note();
    errno = kept;
    return true;
}

// The rank maps its state file once; from then on we see what it writes there.
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    char path[PATH_MAX] = "", name[64];
    void *mapped = (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
    if (!wanted.asked || fd < 0 || mapped == MAP_FAILED)
        return mapped;
    preload_path(fd, path, sizeof path);
    (void)snprintf(name, sizeof name, "/ranks/%s.state", wanted.rank);
    if (strlen(path) > strlen(name) && strcmp(path + strlen(path) - strlen(name), name) == 0) {
        wanted.state = mapped;
        wanted.state_bytes = bytes;
    }
    return mapped;
}

// ---- into MPI, whose handles are pointers
static void enter_mpi(void)
{
    if (is_now("kill"))
        (void)raise(SIGKILL);
    if (is_now("stop"))
        (void)raise(SIGSTOP);
}

// Sums travel as reals, logits and the sums of an evaluation as bytes: a NaN of f64 is one of f16
// at its end.
static void spoil(const void *data, int count, void *type)
{
    static const double F64 = __builtin_nan("");
    static const float F32 = __builtin_nanf("");
    uint8_t *first = (uint8_t *)(uintptr_t)data;
    bool bytes = type == dlsym(RTLD_DEFAULT, "ompi_mpi_byte");
    if (wanted.struck || count < (bytes ? (int)sizeof F64 : 1) || !is_now("nan"))
        return;
    if (type == dlsym(RTLD_DEFAULT, "ompi_mpi_float"))
        memcpy(first, &F32, sizeof F32);
    else
        memcpy(first, &F64, sizeof F64);
}

int MPI_Isend(const void *data, int count, void *type, int to, int tag, void *comm, void **request);
int MPI_Isend(const void *data, int count, void *type, int to, int tag, void *comm, void **request)
{
    int (*real)(const void *, int, void *, int, int, void *, void **);
    *(void **)&real = preload_next("MPI_Isend");
    enter_mpi();
    spoil(data, count, type);
    return real(data, count, type, to, tag, comm, request);
}

int MPI_Send(const void *data, int count, void *type, int to, int tag, void *comm);
int MPI_Send(const void *data, int count, void *type, int to, int tag, void *comm)
{
    int (*real)(const void *, int, void *, int, int, void *);
    *(void **)&real = preload_next("MPI_Send");
    enter_mpi();
    spoil(data, count, type);
    return real(data, count, type, to, tag, comm);
}

int MPI_Allgather(const void *data, int count, void *type, void *all, int all_count, void *all_type,
                  void *comm);
int MPI_Allgather(const void *data, int count, void *type, void *all, int all_count, void *all_type,
                  void *comm)
{
    int (*real)(const void *, int, void *, void *, int, void *, void *);
    *(void **)&real = preload_next("MPI_Allgather");
    enter_mpi();
    spoil(data, count, type);
    return real(data, count, type, all, all_count, all_type, comm);
}

int MPI_Bcast(void *data, int count, void *type, int root, void *comm);
int MPI_Bcast(void *data, int count, void *type, int root, void *comm)
{
    int (*real)(void *, int, void *, int, void *);
    *(void **)&real = preload_next("MPI_Bcast");
    enter_mpi();
    return real(data, count, type, root, comm);
}

int MPI_Allreduce(const void *in, void *out, int count, void *type, void *op, void *comm);
int MPI_Allreduce(const void *in, void *out, int count, void *type, void *op, void *comm)
{
    int (*real)(const void *, void *, int, void *, void *, void *);
    *(void **)&real = preload_next("MPI_Allreduce");
    enter_mpi();
    return real(in, out, count, type, op, comm);
}

// ---- memory
static bool no_memory(size_t bytes)
{
    if (bytes < SMALL_BYTES || !is_now("memory"))
        return false;
    errno = ENOMEM;
    return true;
}

// The C library's own names: dlsym() itself allocates.
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    return no_memory(bytes) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return no_memory(count * bytes) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return no_memory(bytes) ? NULL : __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return no_memory(bytes) ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    *out = no_memory(bytes) ? NULL : __libc_memalign(alignment, bytes);
    return *out ? 0 : ENOMEM;
}

// ---- files
static bool is_full(int fd)
{
    struct stat status;
    if (!wanted.asked || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || !is_now("disk"))
        return false;
    errno = ENOSPC;
    return true;
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    return is_full(fd) ? -1 : syscall(SYS_write, fd, data, bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    return is_full(fd) ? -1 : syscall(SYS_pwrite64, fd, data, bytes, at);
}

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    return is_full(fd) ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, bytes);
}

int fflush(FILE *file)
{
    int (*real)(FILE *);
    *(void **)&real = preload_next("fflush");
    return file && is_full(fileno(file)) ? EOF : real(file);
}

static ssize_t other_bit(int fd, void *data, ssize_t got)
{
    char path[PATH_MAX];
    if (!wanted.asked || got <= 0)
        return got;
    preload_path(fd, path, sizeof path);
    size_t length = strlen(path);
    if (length > 3 && strcmp(path + length - 3, ".h5") == 0 && is_now("read"))
        *(uint8_t *)data ^= 1;
    return got;
}

ssize_t read(int fd, void *data, size_t bytes)
{
    return other_bit(fd, data, syscall(SYS_read, fd, data, bytes));
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at)
{
    return other_bit(fd, data, syscall(SYS_pread64, fd, data, bytes, at));
}
