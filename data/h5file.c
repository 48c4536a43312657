#include "data/h5file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

// H5Pset_file_locking came with 1.10.7 and 1.12.1.
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
#define HAVE_FILE_LOCKING 1
#else
#define HAVE_FILE_LOCKING 0
#endif

// The environment is read once, when the library starts; older versions know no other switch.
static void library_prepare_once(void)
{
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
    H5open();
}

static void library_prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_prepare_once);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); // our one line instead of its stack; per thread
}

// How files are accessed: no locks, and closing a file closes what is open in it.
static hid_t access_properties(void)
{
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl < 0)
        return fapl;
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
#if HAVE_FILE_LOCKING
    H5Pset_file_locking(fapl, false, true);
#endif
    return fapl;
}

// The descriptor under an open file, or -1. Borrowed.
static int file_descriptor(hid_t id)
{
    void *handle = NULL;
    if (H5Fget_vfd_handle(id, H5P_DEFAULT, &handle) < 0 || !handle)
        return -1;
    return *(int *)handle;
}

static hid_t library_create(const char *path)
{
    hid_t fapl = access_properties();
    hid_t fcpl = H5Pcreate(H5P_FILE_CREATE);
    hid_t id = -1;
    if (fapl >= 0 && fcpl >= 0 && H5Pset_userblock(fcpl, USERBLOCK_BYTES) >= 0)
        id = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    return id;
}

// The library's own account of a failed create is vague; the system's is not. Also makes sure that
// the library is not asked to make a file where there is no room for its first bytes, which some
// versions do not survive.
static int probe_create(const char *partial, const char *path)
{
    int fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return FAIL(RETORT_WRITE, "cannot create %s: %s", path, strerror(errno));
    char zeros[4096] = {0};
    ssize_t put = write(fd, zeros, sizeof zeros);
    int why = put < 0 ? errno : ENOSPC;
    close(fd);
    if (put == (ssize_t)sizeof zeros)
        return RETORT_OK;
    partial_discard(partial);
    return FAIL(RETORT_WRITE, "cannot write %s: %s", path, strerror(why));
}

int h5file_create(struct h5file *f, const char *path, const char *kind, uint32_t version)
{
    memset(f, 0, sizeof *f);
    f->id = -1;
    CHECK(strlen(kind) <= USERBLOCK_KIND_BYTES);
    snprintf(f->kind, sizeof f->kind, "%s", kind);
    f->version = version;
    if (strlen(path) >= sizeof f->path)
        return FAIL(RETORT_WRITE, "cannot create %s: the name is too long", path);
    snprintf(f->path, sizeof f->path, "%s", path);
    int rc = partial_path(f->partial, path);
    if (rc == RETORT_OK)
        rc = probe_create(f->partial, path);
    if (rc != RETORT_OK)
        return rc;
    library_prepare();
    f->id = library_create(f->partial);
    if (f->id >= 0)
        return RETORT_OK;
    partial_discard(f->partial);
    return FAIL(RETORT_WRITE, "cannot create %s: the HDF5 library could not start a file there",
                path);
}

int h5file_reserve(struct h5file *f, uint64_t bytes)
{
    int fd = file_descriptor(f->id);
    if (fd < 0)
        return RETORT_OK;
    // The size stays as it is: the library keeps its own account of it.
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) != 0) {
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
            return FAIL(RETORT_WRITE, "cannot write %s: %s; it needs %.1f MB", f->path,
                        strerror(errno), (double)bytes * 1e-6);
        if (errno != EINTR)
            break; // a file system that can't
    }
    return RETORT_OK;
}

int h5file_add_region(struct h5file *f, hid_t dataset)
{
    hsize_t bytes = H5Dget_storage_size(dataset);
    if (bytes == 0)
        return RETORT_OK;
    haddr_t offset = H5Dget_offset(dataset); // from the start of the file, user block included
    if (offset == HADDR_UNDEF)
        return FAIL(RETORT_FAILED, "%s: a sample region must be contiguous and allocated", f->path);
    CHECK(f->region_count < USERBLOCK_REGIONS);
    f->regions[f->region_count].offset = offset;
    f->regions[f->region_count].length = bytes;
    f->region_count++;
    return RETORT_OK;
}

// Closes a file whose content no longer matters. A library that cannot write what it still holds
// may keep the file open, loop or crash, so its descriptor is led to memory first.
static void library_abandon(hid_t id)
{
    int fd = file_descriptor(id);
    int memory = fd < 0 ? -1 : memfd_create("retort-abandoned", MFD_CLOEXEC);
    if (memory >= 0) {
        dup3(memory, fd, O_CLOEXEC);
        close(memory);
    }
    H5Fclose(id);
}

void h5file_close(struct h5file *f)
{
    if (f->id > 0 && f->partial[0])
        library_abandon(f->id);
    else if (f->id > 0)
        H5Fclose(f->id);
    if (f->partial[0])
        partial_discard(f->partial);
    f->id = -1;
    f->partial[0] = '\0';
}

// Hands all to the system and closes the library's side.
static int library_finish(struct h5file *f)
{
    hsize_t bytes = 0;
    if (H5Fget_filesize(f->id, &bytes) >= 0) {
        int rc = h5file_reserve(f, bytes); // the flush then finds its space
        if (rc != RETORT_OK)
            return rc;
    }
    errno = 0;
    if (H5Fflush(f->id, H5F_SCOPE_GLOBAL) < 0)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", f->path,
                    errno ? strerror(errno) : "the HDF5 library failed");
    hid_t id = f->id;
    f->id = -1;
    if (H5Fclose(id) < 0)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", f->path,
                    errno ? strerror(errno) : "the HDF5 library failed");
    return RETORT_OK;
}

static int write_userblock(const struct h5file *f)
{
    struct userblock u = {.version = f->version, .region_count = f->region_count};
    memcpy(u.kind, f->kind, sizeof u.kind);
    memcpy(u.regions, f->regions, sizeof u.regions);
    int fd = open(f->partial, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", f->path, strerror(errno));
    struct stat status;
    int why = fstat(fd, &status) == 0 ? 0 : errno;
    if (why == 0) {
        u.file_bytes = (uint64_t)status.st_size;
        CHECK(userblock_order_regions(&u));
        why = userblock_checksum(&u, fd, &u.checksum);
    }
    uint8_t bytes[USERBLOCK_BYTES];
    userblock_encode(&u, bytes);
    if (why == 0 && pwrite(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        why = errno ? errno : EIO;
    if (close(fd) != 0 && why == 0)
        why = errno;
    if (why)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", f->path, strerror(why));
    return RETORT_OK;
}

int h5file_commit(struct h5file *f)
{
    int rc;
    TRY(library_finish(f));
    TRY(write_userblock(f));
    rc = partial_commit(f->partial, f->path);
    f->partial[0] = '\0';
fail:
    h5file_close(f);
    return rc;
}

int h5file_refuse(const struct h5file *f, const char *format, ...)
{
    char text[2 * PATH_CAPACITY];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return f->quiet ? RETORT_INPUT : FAIL(RETORT_INPUT, "%s", text);
}

// A file that cannot be read; that there was no memory to do so says nothing of the file.
static int refuse_unread(const struct h5file *f, int why)
{
    if (why == ENOMEM)
        return FAIL(RETORT_MEMORY, "no memory to read %s", f->path);
    return h5file_refuse(f, "cannot read %s: %s", f->path, strerror(why));
}

static const char *kind_text(const char *kind)
{
    if (strcmp(kind, H5_KIND_DATASET) == 0)
        return "a data set";
    if (strcmp(kind, H5_KIND_LOGITS) == 0)
        return "a file of logits";
    if (strcmp(kind, H5_KIND_CHECKPOINT) == 0)
        return "a checkpoint";
    if (strcmp(kind, H5_KIND_EVAL_LOGITS) == 0)
        return "the logits of an evaluation";
    return kind;
}

static int refuse_foreign(const struct h5file *f, const char *kind, const uint8_t *head)
{
    const char *what = memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0
                           ? "is an HDF5 file, but not one that retort wrote"
                           : "is not a file that retort wrote";
    const char *remedy =
        kind && strcmp(kind, H5_KIND_DATASET) == 0 ? "; run \"retort pack\" to make one" : "";
    return h5file_refuse(f, "%s %s%s", f->path, what, remedy);
}

static uint32_t newest_version(const char *kind)
{
    if (strcmp(kind, H5_KIND_DATASET) == 0)
        return H5_DATASET_VERSION;
    if (strcmp(kind, H5_KIND_LOGITS) == 0)
        return H5_LOGITS_VERSION;
    if (strcmp(kind, H5_KIND_CHECKPOINT) == 0)
        return H5_CHECKPOINT_VERSION;
    if (strcmp(kind, H5_KIND_EVAL_LOGITS) == 0)
        return H5_EVAL_LOGITS_VERSION;
    return UINT32_MAX; // a kind of its caller's
}

// Checks all of the file but its sample blocks.
static int check_file(const struct h5file *f, const char *kind, int fd, struct userblock *u)
{
    const char *path = f->path;
    struct stat status;
    if (fstat(fd, &status) != 0)
        return refuse_unread(f, errno);
    if (!S_ISREG(status.st_mode))
        return h5file_refuse(f, "%s is not a file", path);
    uint8_t head[USERBLOCK_BYTES] = {0};
    if (pread(fd, head, sizeof head, 0) < 0)
        return refuse_unread(f, errno);
    switch (userblock_decode(u, head)) {
    case USERBLOCK_FOREIGN:
        return refuse_foreign(f, kind, head);
    case USERBLOCK_DAMAGED:
        return h5file_refuse(f, "%s is damaged: its first %d bytes don't fit their checksum", path,
                             USERBLOCK_BYTES);
    case USERBLOCK_WHOLE:
        break;
    }
    if (kind && strcmp(kind, u->kind) != 0)
        return h5file_refuse(f, "%s is %s, not %s", path, kind_text(u->kind), kind_text(kind));
    if (u->version > newest_version(u->kind))
        return h5file_refuse(f, "%s has format version %u of %s; this retort reads up to %u", path,
                             u->version, kind_text(u->kind), newest_version(u->kind));
    if ((uint64_t)status.st_size != u->file_bytes)
        return h5file_refuse(f, "%s is %s: %lld bytes where there were %llu", path,
                             (uint64_t)status.st_size < u->file_bytes ? "truncated" : "damaged",
                             (long long)status.st_size, (unsigned long long)u->file_bytes);
    uint64_t checksum = 0;
    int why = userblock_checksum(u, fd, &checksum);
    if (why)
        return refuse_unread(f, why);
    if (checksum != u->checksum)
        return h5file_refuse(f, "%s is damaged: its structure doesn't fit its checksum", path);
    return RETORT_OK;
}

static hid_t library_open(const char *path)
{
    library_prepare();
    hid_t fapl = access_properties();
    hid_t id = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    H5Pclose(fapl);
    return id;
}

int h5file_open(struct h5file *f, const char *path, const char *kind, bool quiet)
{
    memset(f, 0, sizeof *f);
    f->id = -1;
    f->quiet = quiet;
    if (strlen(path) >= sizeof f->path)
        return h5file_refuse(f, "cannot open %s: the name is too long", path);
    memcpy(f->path, path, strlen(path) + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return h5file_refuse(f, "cannot open %s: %s", path, strerror(errno));
    struct userblock u = {0};
    int rc = check_file(f, kind, fd, &u);
    close(fd);
    if (rc != RETORT_OK)
        return rc;
    errno = 0;
    f->id = library_open(path);
    if (f->id < 0 && errno == ENOMEM)
        return refuse_unread(f, errno);
    if (f->id < 0)
        return h5file_refuse(f, "cannot open %s: the HDF5 library does not understand it", path);
    memcpy(f->kind, u.kind, sizeof f->kind);
    f->version = u.version;
    f->bytes = u.file_bytes;
    f->region_count = u.region_count;
    memcpy(f->regions, u.regions, sizeof f->regions);
    return RETORT_OK;
}

bool h5file_is_ours(const char *path)
{
    uint8_t head[USERBLOCK_BYTES] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, head, sizeof head);
    close(fd);
    struct userblock u;
    return got > 0 && userblock_decode(&u, head) != USERBLOCK_FOREIGN;
}
