#include "data/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/log.h"

static hid_t real_h5(enum real_type real)
{
    return real == REAL_F64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
}

static int step_path(char *out, const char *folder, int64_t step)
{
    char name[64];
    (void)snprintf(name, sizeof name, "ckpt-%09lld.h5", (long long)step);
    return path_join(out, folder, name);
}

static bool all_finite(const void *arena, size_t count, enum real_type real)
{
    bool finite = true;
    for (size_t i = 0; arena && i < count; i++)
        finite &= isfinite(real == REAL_F64 ? ((const double *)arena)[i]
                                            : (double)((const float *)arena)[i]) != 0;
    return finite;
}

static int check_finite(const struct checkpoint *c, const char *path)
{
    if (all_finite(c->weights, c->total, c->real) && all_finite(c->ema, c->total, c->real) &&
        all_finite(c->moment1, c->trainable, c->real) &&
        all_finite(c->moment2, c->trainable, c->real))
        return RETORT_OK;
    return FAIL(RETORT_NUMERIC, "%s is not written: a weight or a moment is not finite", path);
}

static int write_arena(hid_t file, const char *name, const struct checkpoint *c, const void *arena,
                       size_t count)
{
    hsize_t dims[1] = {count};
    return arena ? h5_write_array(file, name, real_h5(c->real), 1, dims, arena) : RETORT_OK;
}

static int write_file(const char *path, const struct checkpoint *c)
{
    struct h5file f = {.id = -1};
    char *state = json_dumps(c->state, JSON_COMPACT | JSON_REAL_PRECISION(17));
    uint64_t bytes = (2 * (uint64_t)c->total + 2 * (uint64_t)c->trainable) * real_bytes(c->real);
    int rc = RETORT_OK;
    TRY_ELSE(state, RETORT_MEMORY, "no memory for a checkpoint");
    TRY(h5file_create(&f, path, H5_KIND_CHECKPOINT, CHECKPOINT_VERSION));
    TRY(h5file_reserve(&f, bytes + (1u << 16)));
    TRY(h5_write_text(f.id, "state", state));
    TRY(h5_write_text(f.id, "layout", c->layout));
    TRY(h5_write_text(f.id, "recipe", c->recipe));
    TRY(h5_write_text(f.id, "dataset", c->dataset));
    TRY(h5_write_text(f.id, "classes", c->classes));
    TRY(h5_write_text(f.id, "created_by", "retort"));
    TRY(write_arena(f.id, "/weights", c, c->weights, c->total));
    TRY(write_arena(f.id, "/ema", c, c->ema, c->total));
    TRY(write_arena(f.id, "/moment1", c, c->moment1, c->trainable));
    TRY(write_arena(f.id, "/moment2", c, c->moment2, c->trainable));
    TRY(h5file_commit(&f));
fail:
    h5file_close(&f);
    free(state);
    return rc;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Steps of the checkpoints in a folder, newest first; the caller frees. Count, or -1.
static int list_steps(const char *folder, int64_t **out)
{
    int count = 0, capacity = 0;
    struct dirent *entry;
    DIR *dir = opendir(folder);
    *out = NULL;
    if (!dir)
        return errno == ENOENT ? 0 : -1;
    while ((entry = readdir(dir)) != NULL) {
        long long step;
        int end = 0;
        if (sscanf(entry->d_name, "ckpt-%lld.h5%n", &step, &end) != 1 || end == 0 ||
            entry->d_name[end] != '\0')
            continue;
        if (count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            int64_t *larger = realloc(*out, (size_t)capacity * sizeof **out);
            if (!larger)
                break;
            *out = larger;
        }
        (*out)[count++] = step;
    }
    (void)closedir(dir);
    if (count > 1)
        qsort(*out, (size_t)count, sizeof **out, newest_first);
    return count;
}

// Leftovers of writers that are dead: "<name>.<pid>.partial".
static void remove_leftovers(const char *folder)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_CAPACITY];
        const char *end = strstr(entry->d_name, ".partial"), *pid = end;
        if (!end || end[8] != '\0')
            continue;
        while (pid > entry->d_name && pid[-1] != '.')
            pid--;
        long writer = strtol(pid, NULL, 10);
        if (writer > 0 && kill((pid_t)writer, 0) != 0 && errno == ESRCH &&
            path_join(path, folder, entry->d_name) == RETORT_OK)
            (void)unlink(path);
    }
    (void)closedir(dir);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void remove_old(const char *folder, int64_t keep)
{
    char best[PATH_CAPACITY], path[PATH_CAPACITY];
    int64_t *steps;
    int count = list_steps(folder, &steps);
    if (path_join(best, folder, "best.h5") == RETORT_OK)
        for (int i = 0; i < count; i++)
            if (i >= keep && step_path(path, folder, steps[i]) == RETORT_OK &&
                !same_file(path, best))
                (void)unlink(path);
    free(steps);
}

int checkpoint_write(const char *folder, int64_t step, const struct checkpoint *c, int64_t keep)
{
    char path[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(folder_create(folder));
    TRY(step_path(path, folder, step));
    TRY(check_finite(c, path));
    TRY(write_file(path, c));
    remove_leftovers(folder);
    remove_old(folder, keep);
fail:
    return rc;
}

// Where the file system has no hard links.
static int copy_file(const char *from, const char *to)
{
    char *bytes = NULL;
    size_t count;
    int rc = file_read(from, (size_t)1 << 40, &bytes, &count);
    if (rc == RETORT_OK)
        rc = file_write_whole(to, bytes, count);
    free(bytes);
    return rc;
}

int checkpoint_link(const char *folder, int64_t step, const char *name)
{
    char from[PATH_CAPACITY], to[PATH_CAPACITY], partial[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(step_path(from, folder, step));
    TRY(path_join(to, folder, name));
    TRY(partial_path(partial, to));
    (void)unlink(partial);
    if (link(from, partial) != 0)
        return copy_file(from, to);
    // rename() does nothing when both are the same file already.
    if (same_file(from, to))
        (void)unlink(partial);
    else
        TRY(partial_commit(partial, to));
fail:
    return rc;
}

static int read_arena(const struct h5file *f, const char *name, struct checkpoint *c, size_t count,
                      void **out)
{
    hsize_t dims[1] = {count};
    if (H5Lexists(f->id, name, H5P_DEFAULT) <= 0)
        return RETORT_OK;
    *out = malloc((count ? count : 1) * real_bytes(c->real));
    if (!*out)
        return FAIL(RETORT_MEMORY, "no memory for %s", f->path);
    return h5_read_array(f, name, real_h5(c->real), 1, dims, *out);
}

// Sizes and the type of the arenas, from the file's own shapes.
static int read_shapes(const struct h5file *f, struct checkpoint *c)
{
    hsize_t dims[8];
    int rank, rc = RETORT_OK;
    TRY(h5_shape(f, "/weights", &rank, dims));
    TRY_ELSE(rank == 1, RETORT_INPUT, "%s: /weights is not an arena", f->path);
    c->total = dims[0];
    TRY(h5_shape(f, "/moment1", &rank, dims));
    TRY_ELSE(rank == 1 && dims[0] <= c->total, RETORT_INPUT, "%s: /moment1 is not an arena",
             f->path);
    c->trainable = dims[0];
    hid_t set = H5Dopen2(f->id, "/weights", H5P_DEFAULT);
    hid_t type = set < 0 ? -1 : H5Dget_type(set);
    c->real = type >= 0 && H5Tget_size(type) == 8 ? REAL_F64 : REAL_F32;
    if (type >= 0)
        H5Tclose(type);
    if (set >= 0)
        H5Dclose(set);
fail:
    return rc;
}

static int read_state(const struct h5file *f, struct checkpoint *c)
{
    char *text = NULL;
    json_error_t why;
    int rc = RETORT_OK;
    TRY(h5_read_text(f, f->id, "state", &text));
    c->state = json_loads(text, 0, &why);
    TRY_ELSE(c->state, RETORT_INPUT, "%s: its state is not JSON: %s", f->path, why.text);
fail:
    free(text);
    return rc;
}

int checkpoint_read(struct checkpoint *out, const char *path, bool quiet)
{
    struct h5file f = {.id = -1};
    int rc = RETORT_OK;
    memset(out, 0, sizeof *out);
    TRY(h5file_open(&f, path, H5_KIND_CHECKPOINT, quiet));
    TRY(read_shapes(&f, out));
    TRY(read_state(&f, out));
    TRY(h5_read_text(&f, f.id, "layout", &out->layout));
    TRY(h5_read_text(&f, f.id, "recipe", &out->recipe));
    TRY(h5_read_text(&f, f.id, "dataset", &out->dataset));
    TRY(h5_read_text(&f, f.id, "classes", &out->classes));
    TRY(read_arena(&f, "/weights", out, out->total, &out->weights));
    TRY(read_arena(&f, "/ema", out, out->total, &out->ema));
    TRY(read_arena(&f, "/moment1", out, out->trainable, &out->moment1));
    TRY(read_arena(&f, "/moment2", out, out->trainable, &out->moment2));
    h5file_close(&f);
    return RETORT_OK;
fail:
    h5file_close(&f);
    checkpoint_free(out);
    return rc;
}

int checkpoint_read_newest(struct checkpoint *out, const char *folder, int64_t *step)
{
    char path[PATH_CAPACITY];
    int64_t *steps;
    int count = list_steps(folder, &steps), rc = RETORT_OK;
    memset(out, 0, sizeof *out);
    *step = -1;
    remove_leftovers(folder);
    for (int i = 0; i < count && *step < 0; i++) {
        TRY(step_path(path, folder, steps[i]));
        if (checkpoint_read(out, path, true) == RETORT_OK)
            *step = steps[i];
        else
            log_warn("%s is damaged and is passed over", path);
    }
fail:
    free(steps);
    return rc;
}

void checkpoint_free(struct checkpoint *c)
{
    free(c->weights);
    free(c->ema);
    free(c->moment1);
    free(c->moment2);
    json_decref(c->state);
    free(c->layout);
    free(c->recipe);
    free(c->dataset);
    free(c->classes);
    memset(c, 0, sizeof *c);
}

void checkpoint_arena_checksum(const void *arena, size_t count, enum real_type real, char out[33])
{
    XXH128_hash_t h = XXH3_128bits(arena, count * real_bytes(real));
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high64,
                   (unsigned long long)h.low64);
}
