#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

int path_join(char *out, const char *folder, const char *name)
{
    size_t folder_length = strlen(folder);
    while (folder_length > 1 && folder[folder_length - 1] == '/')
        folder_length--;
    while (folder_length > 0 && *name == '/')
        name++;
    bool slash = folder_length > 0 && folder[folder_length - 1] != '/';
    size_t name_length = strlen(name);
    if (folder_length + slash + name_length >= PATH_CAPACITY)
        return FAIL(RETORT_USAGE,
                    "the path %.60s…/%.60s is longer than %d bytes; use a shorter one", folder,
                    name, PATH_CAPACITY - 1);
    memmove(out, folder, folder_length);
    if (slash)
        out[folder_length++] = '/';
    memcpy(out + folder_length, name, name_length + 1);
    return RETORT_OK;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

int64_t file_size(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)info.st_size : -1;
}

bool folder_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

// 0, or errno with the folder that could not be made in part[PATH_CAPACITY].
static int make_folders(const char *path, char *part)
{
    size_t length = strlen(path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        // Only the whole path must end as a folder we can use; a parent may be unreadable or exist.
        if (mkdir(part, 0777) != 0 && !folder_exists(part))
            return errno;
    }
    return 0;
}

int folder_create(const char *path)
{
    char part[PATH_CAPACITY];
    if (strlen(path) >= sizeof part)
        return FAIL(RETORT_USAGE, "the path %.60s… is longer than %d bytes; use a shorter one",
                    path, PATH_CAPACITY - 1);
    int failed = make_folders(path, part);
    if (failed)
        return FAIL(RETORT_WRITE, "cannot create the folder %s: %s", part, strerror(failed));
    return RETORT_OK;
}

// read(2) until the end of the file or `limit` bytes; -1 with errno.
static ssize_t read_up_to(int descriptor, char *into, size_t limit)
{
    size_t total = 0;
    while (total < limit) {
        ssize_t got = read(descriptor, into + total, limit - total);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        total += (size_t)got;
    }
    return (ssize_t)total;
}

int file_read(const char *path, size_t limit, char **out, size_t *out_bytes)
{
    int rc = RETORT_OK;
    char *text = NULL;
    size_t capacity = 4096, bytes = 0;
    *out = NULL;
    *out_bytes = 0;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    TRY_ELSE(descriptor >= 0, RETORT_INPUT, "cannot open %s: %s", path, strerror(errno));
    // The size is not asked for: a pipe has none, and a file may grow. One byte stays for the NUL.
    for (;;) {
        char *grown = realloc(text, capacity);
        TRY_ELSE(grown, RETORT_MEMORY, "no memory for the %zu bytes of %s", capacity, path);
        text = grown;
        ssize_t got = read_up_to(descriptor, text + bytes, capacity - 1 - bytes);
        TRY_ELSE(got >= 0, RETORT_INPUT, "cannot read %s: %s", path, strerror(errno));
        bytes += (size_t)got;
        TRY_ELSE(bytes <= limit, RETORT_INPUT, "%s is larger than the %zu bytes allowed for it",
                 path, limit);
        if (bytes < capacity - 1)
            break;
        capacity *= 2;
    }
    text[bytes] = '\0';
    close(descriptor);
    *out = text;
    *out_bytes = bytes;
    return RETORT_OK;
fail:
    free(text);
    if (descriptor >= 0)
        close(descriptor);
    return rc;
}

// What is there and no file: a rename would put one in the place of a device or a pipe.
static bool is_no_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

int partial_path(char *out, const char *path)
{
    if (is_no_file(path))
        return FAIL(RETORT_WRITE, "cannot write %s: it is %s; name a file", path,
                    folder_exists(path) ? "a folder" : "a device or a pipe");
    int used = snprintf(out, PATH_CAPACITY, "%s.%ld.partial", path, (long)getpid());
    if (used < 0 || used >= PATH_CAPACITY)
        return FAIL(RETORT_USAGE, "the path %.60s… is longer than %d bytes; use a shorter one",
                    path, PATH_CAPACITY - 1);
    return RETORT_OK;
}

void partial_discard(const char *partial)
{
    unlink(partial);
}

static int flush(const char *path, int flags)
{
    int descriptor = open(path, flags | O_CLOEXEC);
    if (descriptor < 0)
        return errno;
    int failed = 0;
    while (fsync(descriptor) != 0) {
        failed = errno;
        if (failed != EINTR)
            break;
        failed = 0;
    }
    if (close(descriptor) != 0 && failed == 0 && errno != EINTR)
        failed = errno;
    return failed;
}

int file_flush(const char *path)
{
    int failed = flush(path, O_RDONLY);
    if (failed)
        return FAIL(RETORT_WRITE, "cannot flush %s to disk: %s", path, strerror(failed));
    return RETORT_OK;
}

int folder_flush(const char *path)
{
    int failed = flush(path, O_RDONLY | O_DIRECTORY);
    // Some file systems know no flush of a folder; their renames are ordered by themselves.
    if (failed && failed != EINVAL && failed != ENOTSUP)
        return FAIL(RETORT_WRITE, "cannot flush the folder %s to disk: %s", path, strerror(failed));
    return RETORT_OK;
}

static int flush_folder_of(const char *path)
{
    char folder[PATH_CAPACITY];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        return folder_flush(".");
    if (length == 0)
        return folder_flush("/");
    CHECK(length < sizeof folder);
    memcpy(folder, path, length);
    folder[length] = '\0';
    return folder_flush(folder);
}

int partial_commit(const char *partial, const char *path)
{
    int rc = RETORT_OK;
    TRY(file_flush(partial));
    TRY_ELSE(rename(partial, path) == 0, RETORT_WRITE, "cannot rename %s to %s: %s", partial, path,
             strerror(errno));
    return flush_folder_of(path);
fail:
    partial_discard(partial);
    return rc;
}

int write_all(int descriptor, const void *data, size_t bytes)
{
    for (const char *rest = data; bytes > 0;) {
        ssize_t written = write(descriptor, rest, bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno;
        rest += written;
        bytes -= (size_t)written;
    }
    return 0;
}

// Creates, fills and closes a file; 0 or errno, and then there is none.
static int write_new(const char *partial, const void *data, size_t bytes)
{
    int descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0)
        return errno;
    int failed = write_all(descriptor, data, bytes);
    if (close(descriptor) != 0 && failed == 0 && errno != EINTR)
        failed = errno;
    if (failed)
        partial_discard(partial);
    return failed;
}

int file_write_whole(const char *path, const void *data, size_t bytes)
{
    char partial[PATH_CAPACITY];
    int rc = partial_path(partial, path);
    if (rc != RETORT_OK)
        return rc;
    int failed = write_new(partial, data, bytes);
    if (failed)
        return FAIL(RETORT_WRITE, "cannot write %s: %s", path, strerror(failed));
    return partial_commit(partial, path);
}

bool file_offer(const char *path, const void *data, size_t bytes)
{
    char partial[PATH_CAPACITY], part[PATH_CAPACITY];
    if (is_no_file(path) || strlen(path) + sizeof ".9223372036854775807.partial" > sizeof partial)
        return false;
    memcpy(part, path, strlen(path) + 1);
    char *slash = strrchr(part, '/');
    if (slash && slash > part) {
        char made[PATH_CAPACITY];
        *slash = '\0';
        if (make_folders(part, made) != 0)
            return false;
    }
    if (partial_path(partial, path) != RETORT_OK || write_new(partial, data, bytes) != 0)
        return false;
    if (rename(partial, path) == 0)
        return true;
    partial_discard(partial);
    return false;
}
