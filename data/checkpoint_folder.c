// A folder of checkpoints: retention, links, the newest whole one. The second half of
// data/checkpoint.h.

#include "data/checkpoint_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "data/leftovers.h"

static const char PREFIX[] = "ckpt-", SUFFIX[] = ".h5";

int checkpoint_path(char *out, const char *folder, int64_t step)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s%09lld%s", PREFIX, (long long)step, SUFFIX);
    return path_join(out, folder, name);
}

void checkpoint_sweep(const char *folder)
{
    leftovers_remove(folder, PREFIX);
    leftovers_remove(folder, "best.h5.");
    leftovers_remove(folder, "last.h5.");
}

// The step in "ckpt-<step>.h5", or -1.
static int64_t step_of(const char *name)
{
    size_t prefix = sizeof PREFIX - 1;
    if (strncmp(name, PREFIX, prefix) != 0)
        return -1;
    size_t digits = strspn(name + prefix, "0123456789");
    if (digits < 9 || digits > 18 || strcmp(name + prefix + digits, SUFFIX) != 0)
        return -1;
    return strtoll(name + prefix, NULL, 10);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

// The steps there are files for, newest first; *out is the caller's to free(). A folder that is not
// there has none.
static int list_steps(const char *folder, int64_t **out, size_t *count)
{
    int rc = RETORT_OK;
    size_t capacity = 0;
    *out = NULL;
    *count = 0;
    DIR *entries = opendir(folder);
    if (!entries && errno == ENOENT)
        return RETORT_OK;
    TRY_ELSE(entries, RETORT_INPUT, "cannot read the folder %s: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(entries)) != NULL;) {
        int64_t step = step_of(e->d_name);
        if (step < 0)
            continue;
        if (*count == capacity) {
            capacity = 2 * capacity + 16;
            int64_t *grown = realloc(*out, capacity * sizeof *grown);
            TRY_ELSE(grown, RETORT_MEMORY, "no memory to list %s", folder);
            *out = grown;
        }
        (*out)[(*count)++] = step;
    }
    if (*count > 0)
        qsort(*out, *count, sizeof **out, newest_first);
fail:
    if (entries)
        (void)closedir(entries);
    if (rc != RETORT_OK) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static bool is_whole(const char *path)
{
    struct h5file f;
    if (h5file_open(&f, path, H5_KIND_CHECKPOINT, true) != RETORT_OK)
        return false;
    h5file_close(&f);
    return true;
}

int checkpoint_retain(const char *folder, int64_t keep)
{
    int rc;
    char path[PATH_CAPACITY], best[PATH_CAPACITY];
    int64_t *steps = NULL, whole = 0;
    size_t count = 0;
    TRY(path_join(best, folder, "best.h5"));
    TRY(list_steps(folder, &steps, &count));
    for (size_t i = 0; i < count; i++) {
        TRY(checkpoint_path(path, folder, steps[i]));
        if (whole < keep)
            whole += is_whole(path);
        else if (!is_same_file(path, best) && unlink(path) != 0 && errno != ENOENT)
            log_warn("cannot remove the old checkpoint %s: %s", path, strerror(errno));
    }
fail:
    free(steps);
    return rc;
}

// For file systems without hard links.
static int copy_file(const char *from, const char *partial, const char *to)
{
    static char buffer[1 << 16];
    int rc = RETORT_OK, out = -1;
    ssize_t got = 0;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    TRY_ELSE(in >= 0, RETORT_INPUT, "cannot open %s: %s", from, strerror(errno));
    out = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    TRY_ELSE(out >= 0, RETORT_WRITE, "cannot write %s: %s", to, strerror(errno));
    while ((got = read(in, buffer, sizeof buffer)) > 0) {
        int why = write_all(out, buffer, (size_t)got);
        TRY_ELSE(why == 0, RETORT_WRITE, "cannot write %s: %s", to, strerror(why));
    }
    TRY_ELSE(got == 0, RETORT_INPUT, "cannot read %s: %s", from, strerror(errno));
fail:
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) != 0 && rc == RETORT_OK)
        rc = FAIL(RETORT_WRITE, "cannot write %s: %s", to, strerror(errno));
    if (rc != RETORT_OK && out >= 0)
        partial_discard(partial);
    return rc;
}

int checkpoint_link(const char *folder, int64_t step, const char *name)
{
    int rc;
    char from[PATH_CAPACITY], to[PATH_CAPACITY], partial[PATH_CAPACITY];
    TRY(checkpoint_path(from, folder, step));
    TRY(path_join(to, folder, name));
    if (is_same_file(from, to)) // rename() would leave the name beside it
        return RETORT_OK;
    TRY(partial_path(partial, to));
    partial_discard(partial);
    if (link(from, partial) != 0)
        TRY(copy_file(from, partial, to));
    TRY(partial_commit(partial, to));
fail:
    return rc;
}

int checkpoint_read_newest(struct checkpoint *out, const char *folder, int64_t *step)
{
    int rc;
    char path[PATH_CAPACITY];
    int64_t *steps = NULL;
    size_t count = 0;
    memset(out, 0, sizeof *out);
    *step = -1;
    checkpoint_sweep(folder);
    TRY(list_steps(folder, &steps, &count));
    for (size_t i = 0; i < count && *step < 0; i++) {
        TRY(checkpoint_path(path, folder, steps[i]));
        rc = checkpoint_read(out, path, true);
        if (rc == RETORT_OK)
            *step = steps[i];
        else if (rc == RETORT_INPUT)
            log_warn("%s is damaged; %s", path,
                     i + 1 < count ? "the checkpoint before it is tried" : "there is none before");
        else
            goto fail;
    }
    rc = RETORT_OK;
fail:
    free(steps);
    return rc;
}
