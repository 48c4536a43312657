#include "hdf5_tools/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

enum { DEPTH_LIMIT = 16 };                            // folders in folders; ends a loop of links
static const int64_t FILE_LIMIT = (int64_t)256 << 20; // bytes of one picture or list
// An archive's word on a file's length is taken up to here; what is longer shows itself.
enum { BELIEVED_BYTES = 1 << 20, LEAST_BYTES = 4096 };

void source_free(struct source *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->entries[i].path);
        free(s->entries[i].bytes);
    }
    free(s->entries);
    *s = (struct source){0};
}

static int out_of_memory(const struct source *s)
{
    return FAIL(RETORT_MEMORY, "out of memory reading %s", s->location);
}

// Appends an entry without content.
static int append(struct source *s, const char *path, bool is_folder, struct source_entry **out)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 1024;
        struct source_entry *entries = realloc(s->entries, capacity * sizeof *entries);
        if (!entries)
            return out_of_memory(s);
        s->entries = entries;
        s->capacity = capacity;
    }
    struct source_entry *e = &s->entries[s->count];
    *e = (struct source_entry){.path = strdup(path), .is_folder = is_folder};
    if (!e->path)
        return out_of_memory(s);
    s->count++;
    *out = e;
    return RETORT_OK;
}

static int list_folder(struct source *s, const char *relative, int depth, source_filter wanted);

static int list_entry(struct source *s, const char *relative, const char *name, int depth,
                      source_filter wanted)
{
    char path[PATH_CAPACITY], full[PATH_CAPACITY];
    int rc = RETORT_OK;
    if (relative[0])
        rc = path_join(path, relative, name);
    else
        snprintf(path, sizeof path, "%s", name);
    if (rc == RETORT_OK)
        rc = path_join(full, s->location, path);
    if (rc != RETORT_OK)
        return rc;
    struct stat status;
    if (stat(full, &status) != 0)
        return FAIL(RETORT_INPUT, "cannot read %s: %s", full, strerror(errno));
    bool is_folder = S_ISDIR(status.st_mode);
    if ((!is_folder && !S_ISREG(status.st_mode)) || !wanted(path, is_folder))
        return RETORT_OK;
    struct source_entry *e;
    rc = append(s, path, is_folder, &e);
    if (rc != RETORT_OK || !is_folder)
        return rc;
    return list_folder(s, path, depth + 1, wanted);
}

static int list_folder(struct source *s, const char *relative, int depth, source_filter wanted)
{
    char full[PATH_CAPACITY];
    int rc = path_join(full, s->location, relative);
    if (rc != RETORT_OK)
        return rc;
    if (depth > DEPTH_LIMIT)
        return FAIL(RETORT_INPUT, "%s is more than %d folders deep", full, DEPTH_LIMIT);
    DIR *folder = opendir(full);
    if (!folder)
        return FAIL(RETORT_INPUT, "cannot read folder %s: %s", full, strerror(errno));
    for (struct dirent *d; rc == RETORT_OK && (errno = 0, d = readdir(folder));)
        if (d->d_name[0] != '.')
            rc = list_entry(s, relative, d->d_name, depth, wanted);
    if (rc == RETORT_OK && errno)
        rc = FAIL(RETORT_INPUT, "cannot read folder %s: %s", full, strerror(errno));
    closedir(folder);
    return rc;
}

// Writes the entry's name without "./", doubled and closing slashes; false when it has none.
static bool clean_name(struct archive_entry *entry, char out[PATH_CAPACITY])
{
    const char *name = archive_entry_pathname(entry);
    if (!name)
        name = archive_entry_pathname_utf8(entry);
    size_t length = 0;
    while (name && *name) {
        size_t part = strcspn(name, "/");
        if (part > 0 && !(part == 1 && name[0] == '.')) {
            if (length + part + 2 > PATH_CAPACITY)
                return false;
            if (length > 0)
                out[length++] = '/';
            memcpy(out + length, name, part);
            length += part;
        }
        name += part + (name[part] == '/');
    }
    out[length] = '\0';
    return length > 0;
}

// Adds to what the archive's entries take.
static int hold(struct source *s, size_t bytes)
{
    if (bytes <= s->memory_limit - s->held_bytes) {
        s->held_bytes += bytes;
        return RETORT_OK;
    }
    char limit[32];
    format_bytes((double)s->memory_limit, limit, sizeof limit);
    return FAIL(RETORT_INPUT,
                "%s holds more than the %s that fit into memory; unpack it and pack "
                "the folder",
                s->location, limit);
}

// Gives the content room for `capacity` bytes.
static int grow(struct source *s, struct source_entry *e, size_t before, size_t capacity)
{
    int rc = hold(s, capacity - before);
    if (rc != RETORT_OK)
        return rc;
    uint8_t *grown = realloc(e->bytes, capacity);
    if (!grown)
        return out_of_memory(s);
    e->bytes = grown;
    return RETORT_OK;
}

// Gives back the room that was not needed.
static void fit(struct source *s, struct source_entry *e, size_t capacity)
{
    size_t needed = e->byte_count + 1;
    uint8_t *fitted = needed < capacity ? realloc(e->bytes, needed) : NULL;
    if (!fitted)
        return;
    e->bytes = fitted;
    s->held_bytes -= capacity - needed;
}

static int refuse_long(const struct source *s, const struct source_entry *e)
{
    return FAIL(RETORT_INPUT, "%s: %s is larger than %lld bytes", s->location, e->path,
                (long long)FILE_LIMIT);
}

static int read_content(struct source *s, struct archive *a, struct archive_entry *entry,
                        struct source_entry *e)
{
    int64_t said = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : LEAST_BYTES;
    said = said < 0 ? 0 : said;
    if (said > FILE_LIMIT)
        return refuse_long(s, e);
    size_t capacity = said < BELIEVED_BYTES ? (size_t)said : BELIEVED_BYTES;
    capacity += 1; // so that the end is seen without growing
    int rc = grow(s, e, 0, capacity);
    while (rc == RETORT_OK) {
        la_ssize_t got = archive_read_data(a, e->bytes + e->byte_count, capacity - e->byte_count);
        if (got < 0)
            return FAIL(RETORT_INPUT, "%s is damaged at %s: %s", s->location, e->path,
                        archive_error_string(a));
        if (got == 0) {
            fit(s, e, capacity);
            return RETORT_OK;
        }
        e->byte_count += (size_t)got;
        if ((int64_t)e->byte_count > FILE_LIMIT)
            return refuse_long(s, e);
        if (e->byte_count < capacity)
            continue;
        size_t before = capacity;
        capacity = before < LEAST_BYTES ? LEAST_BYTES : before + before / 2;
        rc = grow(s, e, before, capacity);
    }
    return rc;
}

static int read_entry(struct source *s, struct archive *a, struct archive_entry *entry,
                      source_filter wanted)
{
    char path[PATH_CAPACITY];
    bool is_folder = archive_entry_filetype(entry) == AE_IFDIR;
    bool is_file = archive_entry_filetype(entry) == AE_IFREG;
    struct source_entry *e;
    if (!clean_name(entry, path) || (!is_folder && !is_file) || !wanted(path, is_folder))
        return RETORT_OK;
    int rc = hold(s, sizeof *e + strlen(path));
    if (rc == RETORT_OK)
        rc = append(s, path, is_folder, &e);
    if (rc == RETORT_OK && is_file)
        rc = read_content(s, a, entry, e);
    return rc;
}

static int read_entries(struct source *s, struct archive *a, source_filter wanted, int64_t bytes)
{
    struct progress progress;
    progress_init(&progress, "reading", bytes);
    int rc = RETORT_OK;
    while (rc == RETORT_OK) {
        struct archive_entry *entry;
        int status = archive_read_next_header(a, &entry);
        if (status == ARCHIVE_EOF)
            break;
        if (status == ARCHIVE_OK || status == ARCHIVE_WARN)
            rc = read_entry(s, a, entry, wanted);
        else
            rc = FAIL(RETORT_INPUT, "cannot read %s as an archive: %s", s->location,
                      archive_error_string(a));
        int64_t at = archive_filter_bytes(a, -1);
        progress_update(&progress, at < bytes ? at : bytes - 1, NULL);
    }
    progress_end(&progress);
    return rc;
}

static int read_archive(struct source *s, source_filter wanted, int64_t bytes)
{
    struct archive *a = archive_read_new();
    if (!a)
        return out_of_memory(s);
    // Not all that the library knows: some of them start other programs.
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_format_tar(a);
    archive_read_support_format_zip(a);
    int rc;
    if (archive_read_open_filename(a, s->location, (size_t)1 << 20) == ARCHIVE_OK)
        rc = read_entries(s, a, wanted, bytes);
    else
        rc = FAIL(RETORT_INPUT, "cannot read %s as an archive: %s", s->location,
                  archive_error_string(a));
    archive_read_free(a);
    return rc;
}

static int entry_compare(const void *a, const void *b)
{
    const struct source_entry *x = a, *y = b;
    return strcmp(x->path, y->path);
}

// Sorts, drops folders that an archive lists twice, and refuses files that it does.
static int order_entries(struct source *s)
{
    if (s->count == 0)
        return RETORT_OK;
    qsort(s->entries, s->count, sizeof *s->entries, entry_compare);
    size_t kept = 1;
    for (size_t i = 1; i < s->count; i++) {
        struct source_entry *e = &s->entries[i], *before = &s->entries[kept - 1];
        if (strcmp(e->path, before->path) != 0) {
            struct source_entry moved = *e;
            *e = (struct source_entry){0};
            s->entries[kept++] = moved;
            continue;
        }
        if (!e->is_folder || !before->is_folder)
            return FAIL(RETORT_INPUT, "%s has %s twice", s->location, e->path);
        free(e->path);
        *e = (struct source_entry){0};
    }
    s->count = kept;
    return RETORT_OK;
}

int source_read(struct source *s, const char *location, source_filter wanted, size_t memory_limit)
{
    *s = (struct source){.memory_limit = memory_limit};
    struct stat status;
    if (stat(location, &status) != 0)
        return FAIL(RETORT_INPUT, "cannot read %s: %s", location, strerror(errno));
    if (strlen(location) >= sizeof s->location)
        return FAIL(RETORT_INPUT, "cannot read %s: the name is too long", location);
    snprintf(s->location, sizeof s->location, "%s", location);
    int rc;
    if (S_ISDIR(status.st_mode)) {
        rc = list_folder(s, "", 0, wanted);
    } else {
        s->is_archive = true;
        rc = read_archive(s, wanted, (int64_t)status.st_size);
    }
    if (rc == RETORT_OK)
        rc = order_entries(s);
    if (rc != RETORT_OK)
        source_free(s);
    return rc;
}

static int load_file(int fd, struct source_bytes *out)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return errno;
    if (status.st_size > FILE_LIMIT)
        return EFBIG;
    size_t capacity = (size_t)status.st_size;
    out->owned = malloc(capacity + 1);
    if (!out->owned)
        return ENOMEM;
    while (out->count < capacity) {
        ssize_t got = read(fd, out->owned + out->count, capacity - out->count);
        if (got < 0 && errno != EINTR)
            return errno;
        if (got == 0)
            break;
        out->count += got > 0 ? (size_t)got : 0;
    }
    out->data = out->owned;
    return 0;
}

int source_load(const struct source *s, const struct source_entry *entry, struct source_bytes *out,
                char *why, size_t why_bytes)
{
    *out = (struct source_bytes){.data = entry->bytes, .count = entry->byte_count};
    if (s->is_archive)
        return RETORT_OK;
    char full[2 * PATH_CAPACITY];
    snprintf(full, sizeof full, "%s/%s", s->location, entry->path);
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? errno : load_file(fd, out);
    if (fd >= 0)
        close(fd);
    if (error == 0)
        return RETORT_OK;
    free(out->owned);
    *out = (struct source_bytes){0};
    snprintf(why, why_bytes, "%s", strerror(error));
    return error == ENOMEM ? RETORT_MEMORY : RETORT_INPUT;
}
