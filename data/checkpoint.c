#include "data/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/checkpoint_folder.h"

// Room for what is no arena: texts and the library's structures.
enum { OVERHEAD_BYTES = 1 << 16 };

enum arena { ARENA_WEIGHTS, ARENA_EMA, ARENA_MOMENT1, ARENA_MOMENT2, ARENA_COUNT };
static const char *const ARENA_NAMES[ARENA_COUNT] = {"/weights", "/ema", "/moment1", "/moment2"};

enum text { TEXT_LAYOUT, TEXT_RECIPE, TEXT_DATASET, TEXT_CLASSES, TEXT_PICTURES, TEXT_COUNT };
static const char *const TEXT_NAMES[TEXT_COUNT] = {"layout", "recipe", "dataset", "classes",
                                                   "pictures"};

static void **arena_of(struct checkpoint *c, enum arena a)
{
    void **all[ARENA_COUNT] = {&c->weights, &c->ema, &c->moment1, &c->moment2};
    return all[a];
}

static char **text_of(struct checkpoint *c, enum text t)
{
    char **all[TEXT_COUNT] = {&c->layout, &c->recipe, &c->dataset, &c->classes, &c->pictures};
    return all[t];
}

static size_t arena_count(const struct checkpoint *c, enum arena a)
{
    return a == ARENA_WEIGHTS || a == ARENA_EMA ? c->total : c->trainable;
}

static hid_t memory_type(enum real_type real)
{
    return real == REAL_F64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
}

// Index of the first value that is not finite; count when all are. A block at a time, without a
// branch, so that it costs as much as reading.
static size_t first_not_finite(const void *arena, size_t count, enum real_type real)
{
    enum { BLOCK = 1024 };
    const float *f = arena;
    const double *d = arena;
    for (size_t start = 0; start < count; start += BLOCK) {
        size_t end = count - start < BLOCK ? count : start + BLOCK;
        int bad = 0;
        for (size_t i = start; i < end; i++)
            bad |= real == REAL_F64 ? !isfinite(d[i]) : !isfinite(f[i]);
        for (size_t i = start; bad && i < end; i++)
            if (real == REAL_F64 ? !isfinite(d[i]) : !isfinite(f[i]))
                return i;
    }
    return count;
}

// "conv3.weight" of the layout's JSON for an index of an arena; "?" when it has none. The name
// lives as long as `list`.
static const char *parameter_at(const json_t *list, size_t index)
{
    size_t i;
    json_t *entry;
    json_array_foreach(list, i, entry)
    {
        json_int_t offset = json_integer_value(json_object_get(entry, "offset"));
        json_int_t count = json_integer_value(json_object_get(entry, "count"));
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && (json_int_t)index >= offset && (json_int_t)index - offset < count)
            return name;
    }
    return "?";
}

static int check_finite(struct checkpoint *c, const char *path)
{
    for (enum arena a = 0; a < ARENA_COUNT; a++) {
        const void *arena = *arena_of(c, a);
        size_t count = arena_count(c, a);
        size_t at = arena ? first_not_finite(arena, count, c->real) : count;
        if (at == count)
            continue;
        json_t *layout = json_loads(c->layout, 0, NULL);
        int rc = FAIL(RETORT_NUMERIC,
                      "%s is not written: element %zu of %s (%s) is not finite; lower the learning "
                      "rate and go on from the checkpoint before",
                      path, at, ARENA_NAMES[a] + 1, parameter_at(layout, at));
        json_decref(layout);
        return rc;
    }
    return RETORT_OK;
}

static int write_texts(hid_t file, struct checkpoint *c)
{
    int rc;
    char *state = json_dumps(c->state, JSON_COMPACT | JSON_REAL_PRECISION(17));
    TRY_ELSE(state, RETORT_MEMORY, "no memory for the state of a checkpoint");
    TRY(h5_write_text(file, "state", state));
    for (enum text t = 0; t < TEXT_COUNT; t++)
        if (*text_of(c, t))
            TRY(h5_write_text(file, TEXT_NAMES[t], *text_of(c, t)));
    TRY(h5_write_i64(file, "trainable", (int64_t)c->trainable));
    TRY(h5_write_text(file, "created_by", "retort"));
fail:
    free(state);
    return rc;
}

static int write_file(struct checkpoint *c, const char *path)
{
    int rc;
    struct h5file f;
    uint64_t bytes = OVERHEAD_BYTES;
    for (enum arena a = 0; a < ARENA_COUNT; a++)
        bytes += *arena_of(c, a) ? arena_count(c, a) * real_bytes(c->real) : 0;
    rc = h5file_create(&f, path, H5_KIND_CHECKPOINT, CHECKPOINT_VERSION);
    if (rc != RETORT_OK)
        return rc;
    TRY(h5file_reserve(&f, bytes));
    TRY(write_texts(f.id, c));
    for (enum arena a = 0; a < ARENA_COUNT; a++) {
        hsize_t dims[1] = {arena_count(c, a)};
        if (*arena_of(c, a))
            TRY(h5_write_array(f.id, ARENA_NAMES[a], memory_type(c->real), 1, dims,
                               *arena_of(c, a)));
    }
    return h5file_commit(&f);
fail:
    h5file_close(&f);
    return rc;
}

int checkpoint_write_file(const char *path, const struct checkpoint *c)
{
    struct checkpoint borrowed = *c; // nothing of it changes
    CHECK(c->weights && c->state && c->layout && c->recipe && c->dataset && c->classes);
    int rc = check_finite(&borrowed, path);
    return rc == RETORT_OK ? write_file(&borrowed, path) : rc;
}

int checkpoint_write(const char *folder, int64_t step, const struct checkpoint *c, int64_t keep)
{
    int rc;
    char path[PATH_CAPACITY];
    TRY(folder_create(folder));
    TRY(checkpoint_path(path, folder, step));
    checkpoint_sweep(folder);
    TRY(checkpoint_write_file(path, c));
    TRY(checkpoint_retain(folder, keep));
fail:
    return rc;
}

// total, trainable and real, from /weights and an attribute.
static int read_sizes(struct checkpoint *c, const struct h5file *f)
{
    int rank = 0, rc;
    hsize_t dims[8] = {0};
    int64_t trainable = 0;
    TRY(h5_shape(f, ARENA_NAMES[ARENA_WEIGHTS], &rank, dims));
    TRY(h5_read_i64(f, f->id, "trainable", &trainable));
    if (rank != 1 || trainable < 0 || (hsize_t)trainable > dims[0])
        TRY(h5file_refuse(f, "%s: /weights is no arena of %lld parameters", f->path,
                          (long long)trainable));
    c->total = dims[0];
    c->trainable = (size_t)trainable;
    hid_t id;
    TRY(h5_open_array(f, ARENA_NAMES[ARENA_WEIGHTS], &id));
    hid_t type = H5Dget_type(id);
    c->real = H5Tget_size(type) == sizeof(double) ? REAL_F64 : REAL_F32;
    H5Tclose(type);
    H5Dclose(id);
fail:
    return rc;
}

static int read_arena(struct checkpoint *c, const struct h5file *f, enum arena a)
{
    void **arena = arena_of(c, a);
    hsize_t dims[1] = {arena_count(c, a)};
    if (H5Lexists(f->id, ARENA_NAMES[a], H5P_DEFAULT) <= 0)
        return RETORT_OK; // not kept
    *arena = malloc((dims[0] + 1) * real_bytes(c->real));
    if (!*arena)
        return FAIL(RETORT_MEMORY, "no memory for %s of %s", ARENA_NAMES[a], f->path);
    return h5_read_array(f, ARENA_NAMES[a], memory_type(c->real), 1, dims, *arena);
}

static int read_texts(struct checkpoint *c, const struct h5file *f)
{
    int rc;
    char *state = NULL;
    json_error_t why;
    for (enum text t = 0; t < TEXT_COUNT; t++)
        if (t != TEXT_PICTURES || H5Aexists(f->id, TEXT_NAMES[t]) > 0)
            TRY(h5_read_text(f, f->id, TEXT_NAMES[t], text_of(c, t)));
    TRY(h5_read_text(f, f->id, "state", &state));
    c->state = json_loads(state, 0, &why);
    if (!json_is_object(c->state))
        TRY(h5file_refuse(f, "%s: its state is no JSON object%s%s", f->path, c->state ? "" : ": ",
                          c->state ? "" : why.text));
fail:
    free(state);
    return rc;
}

int checkpoint_read(struct checkpoint *out, const char *path, bool quiet)
{
    struct h5file f;
    memset(out, 0, sizeof *out);
    int rc = h5file_open(&f, path, H5_KIND_CHECKPOINT, quiet);
    if (rc != RETORT_OK)
        return rc;
    TRY(read_sizes(out, &f));
    TRY(read_texts(out, &f));
    for (enum arena a = 0; a < ARENA_COUNT; a++)
        TRY(read_arena(out, &f, a));
fail:
    h5file_close(&f);
    if (rc != RETORT_OK)
        checkpoint_free(out);
    return rc;
}

void checkpoint_free(struct checkpoint *c)
{
    for (enum arena a = 0; a < ARENA_COUNT; a++)
        free(*arena_of(c, a));
    for (enum text t = 0; t < TEXT_COUNT; t++)
        free(*text_of(c, t));
    json_decref(c->state);
    memset(c, 0, sizeof *c);
}

void checkpoint_arena_checksum(const void *arena, size_t count, enum real_type real, char out[33])
{
    XXH128_hash_t hash = XXH3_128bits(arena, count * real_bytes(real));
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64,
                   (unsigned long long)hash.low64);
}
