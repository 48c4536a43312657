// Writing logits, a view at a time: the second half of data/logits.h.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "data/leftovers.h"
#include "data/logits_file.h"

enum { COPY_ROWS = 4096 };

struct logit_writer {
    char path[PATH_CAPACITY];
    struct logit_identity identity;
    int64_t view;       // under way, or the number of views when all are there
    int64_t rows;       // of that view, put so far
    struct h5file part; // of that view; closed when there is none
};

static int part_path(char *out, const char *path, int64_t view)
{
    int used = snprintf(out, PATH_CAPACITY, "%s.view%lld", path, (long long)view);
    if (used < 0 || used >= PATH_CAPACITY)
        return FAIL(RETORT_USAGE, "the path %.60s… is longer than %d bytes; use a shorter one",
                    path, PATH_CAPACITY - 1);
    return RETORT_OK;
}

// Parts of one store are of one identity, computed in one precision.
static bool part_is_whole(const struct logit_writer *w, int64_t view)
{
    char path[PATH_CAPACITY], why[256];
    struct logit_store part;
    if (part_path(path, w->path, view) != RETORT_OK || !file_exists(path))
        return false;
    int rc = logits_file_open(&part, path, 1, true);
    if (rc == RETORT_INPUT)
        log_warn("%s is damaged; its view is computed again", path);
    if (rc != RETORT_OK)
        return false;
    bool fits = logit_identity_matches(&part.identity, &w->identity, why, sizeof why) &&
                strcmp(part.identity.precision, w->identity.precision) == 0;
    logit_store_close(&part);
    return fits;
}

// The folder and the name in it, of a path.
static const char *split_path(const char *path, char folder[PATH_CAPACITY])
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        (void)snprintf(folder, PATH_CAPACITY, ".");
        return path;
    }
    (void)snprintf(folder, PATH_CAPACITY, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return slash + 1;
}

// The view in "<name>.view<v>", or -1.
static int64_t part_view(const char *entry, const char *name)
{
    static const char MARK[] = ".view";
    size_t length = strlen(name);
    if (strncmp(entry, name, length) != 0 || strncmp(entry + length, MARK, sizeof MARK - 1) != 0)
        return -1;
    const char *digits = entry + length + sizeof MARK - 1;
    size_t count = strspn(digits, "0123456789");
    return count > 0 && count < 10 && digits[count] == '\0' ? strtoll(digits, NULL, 10) : -1;
}

// Removes parts of views from `view` on: what a pass for another identity, or a damaged part, left.
static int remove_parts(const char *store, int64_t view)
{
    char folder[PATH_CAPACITY], path[PATH_CAPACITY];
    const char *name = split_path(store, folder);
    DIR *entries = opendir(folder);
    if (!entries)
        return FAIL(RETORT_WRITE, "cannot read the folder %s: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(entries)) != NULL;)
        if (part_view(e->d_name, name) >= view && path_join(path, folder, e->d_name) == RETORT_OK)
            (void)unlink(path);
    (void)closedir(entries);
    return RETORT_OK;
}

// The parts that are missing and the store, which stand side by side at the end.
static int check_space(const struct logit_writer *w)
{
    char folder[PATH_CAPACITY];
    struct statvfs disk;
    uint64_t need = (uint64_t)(2 * w->identity.views - w->view) * logits_view_bytes(&w->identity);
    (void)split_path(w->path, folder);
    if (statvfs(folder, &disk) != 0)
        return RETORT_OK; // writing will tell
    uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need > room)
        return FAIL(RETORT_WRITE,
                    "%s: the logits need %.1f MB of disk while they are written, %.1f MB are free; "
                    "make room or ask for fewer logits.views",
                    w->path, (double)need * 1e-6, (double)room * 1e-6);
    return RETORT_OK;
}

static int begin_view(struct logit_writer *w)
{
    char path[PATH_CAPACITY];
    int rc = RETORT_OK;
    w->rows = 0;
    if (w->view == w->identity.views)
        return RETORT_OK;
    TRY(part_path(path, w->path, w->view));
    TRY(logits_file_create(&w->part, path, &w->identity, 1));
fail:
    return rc;
}

int logit_writer_create(struct logit_writer **out, const char *path,
                        const struct logit_identity *identity, int64_t *next_view)
{
    int rc;
    char folder[PATH_CAPACITY];
    const char *name = split_path(path, folder);
    *out = NULL;
    struct logit_writer *w = calloc(1, sizeof *w);
    if (!w)
        return FAIL(RETORT_MEMORY, "no memory to write logits");
    w->part.id = -1;
    w->identity = *identity;
    TRY_ELSE(strlen(path) < sizeof w->path, RETORT_USAGE, "the path %.60s… is too long", path);
    memcpy(w->path, path, strlen(path) + 1);
    leftovers_remove(folder, name);
    while (w->view < identity->views && part_is_whole(w, w->view))
        w->view++;
    TRY(remove_parts(w->path, w->view));
    TRY(check_space(w));
    TRY(begin_view(w));
    *next_view = w->view;
    *out = w;
    return RETORT_OK;
fail:
    logit_writer_discard(&w);
    return rc;
}

int logit_parts_remove(const char *path)
{
    char folder[PATH_CAPACITY];
    const char *name = split_path(path, folder);
    leftovers_remove(folder, name);
    return remove_parts(path, 0);
}

// An f16 that is infinite or not a number: a logit that did not fit.
static bool fits_half(const uint16_t *logits, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all &= (logits[i] & 0x7c00u) != 0x7c00u;
    return all;
}

int logit_writer_put(struct logit_writer *w, int64_t first, int64_t count, const uint16_t *logits,
                     const uint64_t *digests)
{
    int64_t classes = w->identity.classes;
    CHECK(w->part.id >= 0 && first >= 0 && count >= 0 && first + count <= w->identity.samples);
    for (int64_t i = 0; i < count; i++)
        if (!fits_half(logits + i * classes, (size_t)classes))
            return FAIL(RETORT_NUMERIC,
                        "the teacher's logits of sample %lld in view %lld do not fit f16 (65504 at "
                        "most); train it with weight decay or a lower learning rate",
                        (long long)(first + i), (long long)w->view);
    w->rows += count;
    return logits_file_write(&w->part, &w->identity, (struct logit_rows){0, first, count}, logits,
                             digests);
}

int logit_writer_end_view(struct logit_writer *w)
{
    CHECK(w->rows == w->identity.samples);
    int rc = h5file_commit(&w->part);
    if (rc != RETORT_OK)
        return rc;
    w->view++;
    return begin_view(w);
}

struct copy_buffers {
    uint16_t *logits;
    uint64_t *digests;
};

static int copy_view(const struct logit_writer *w, const struct h5file *to, int64_t view,
                     const struct copy_buffers *b)
{
    int rc;
    char path[PATH_CAPACITY];
    struct logit_store part = {.file = {.id = -1}};
    TRY(part_path(path, w->path, view));
    TRY(logits_file_open(&part, path, 1, false));
    for (int64_t first = 0; first < w->identity.samples; first += COPY_ROWS) {
        int64_t left = w->identity.samples - first, count = left < COPY_ROWS ? left : COPY_ROWS;
        TRY(logit_store_read(&part, 0, first, count, b->logits, b->digests));
        TRY(logits_file_write(to, &w->identity, (struct logit_rows){view, first, count}, b->logits,
                              b->digests));
    }
fail:
    logit_store_close(&part);
    return rc;
}

int logit_writer_commit(struct logit_writer **p)
{
    int rc;
    struct logit_writer *w = *p;
    struct h5file store = {.id = -1};
    struct copy_buffers b = {
        malloc((size_t)COPY_ROWS * (size_t)w->identity.classes * sizeof *b.logits),
        malloc(COPY_ROWS * sizeof *b.digests)};
    CHECK(w->view == w->identity.views);
    TRY_ELSE(b.logits && b.digests, RETORT_MEMORY, "no memory to write %s", w->path);
    TRY(logits_file_create(&store, w->path, &w->identity, w->identity.views));
    for (int64_t view = 0; view < w->identity.views; view++)
        TRY(copy_view(w, &store, view, &b));
    TRY(h5file_commit(&store));
    TRY(remove_parts(w->path, 0));
fail:
    h5file_close(&store);
    free(b.logits);
    free(b.digests);
    logit_writer_discard(p);
    return rc;
}

void logit_writer_discard(struct logit_writer **p)
{
    struct logit_writer *w = *p;
    *p = NULL;
    if (!w)
        return;
    h5file_close(&w->part);
    free(w);
}
