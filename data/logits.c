#include "data/logits.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

static const char LOGITS[] = "/logits", DIGESTS[] = "/pixels_xxh3";

struct logit_writer {
    char path[PATH_CAPACITY];
    struct logit_identity identity;
    int64_t view;       // under way
    struct h5file part; // of that view; closed between views
};

// IEEE half precision: h5py reads it as float16.
static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_NATIVE_FLOAT);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_precision(type, 16);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

static int part_path(char *out, const char *path, int64_t view)
{
    int n = snprintf(out, PATH_CAPACITY, "%s.view%lld", path, (long long)view);
    return n < PATH_CAPACITY ? RETORT_OK : FAIL(RETORT_USAGE, "path too long: %s", path);
}

static int write_identity(hid_t file, const struct logit_identity *id)
{
    int rc = RETORT_OK;
    TRY(h5_write_i64(file, "views", id->views));
    TRY(h5_write_i64(file, "samples", id->samples));
    TRY(h5_write_i64(file, "classes", id->classes));
    TRY(h5_write_i64(file, "seed", (int64_t)id->seed));
    TRY(h5_write_i64(file, "augment", id->augment));
    TRY(h5_write_text(file, "weights", id->weights ? "ema" : "raw"));
    TRY(h5_write_text(file, "dataset", id->dataset));
    TRY(h5_write_text(file, "teacher", id->teacher));
    TRY(h5_write_text(file, "precision", id->precision));
    TRY(h5_write_text(file, "created_by", "retort"));
fail:
    return rc;
}

static int read_text_into(const struct h5file *f, const char *name, char *out, size_t bytes)
{
    char *text = NULL;
    int rc = h5_read_text(f, f->id, name, &text);
    if (rc == RETORT_OK)
        (void)snprintf(out, bytes, "%s", text);
    free(text);
    return rc;
}

static int read_identity(const struct h5file *f, struct logit_identity *id)
{
    int64_t seed = 0;
    char weights[8] = "";
    int rc = RETORT_OK;
    memset(id, 0, sizeof *id);
    TRY(h5_read_i64(f, f->id, "views", &id->views));
    TRY(h5_read_i64(f, f->id, "samples", &id->samples));
    TRY(h5_read_i64(f, f->id, "classes", &id->classes));
    TRY(h5_read_i64(f, f->id, "seed", &seed));
    TRY(h5_read_i64(f, f->id, "augment", &id->augment));
    TRY(read_text_into(f, "weights", weights, sizeof weights));
    TRY(read_text_into(f, "dataset", id->dataset, sizeof id->dataset));
    TRY(read_text_into(f, "teacher", id->teacher, sizeof id->teacher));
    TRY(read_text_into(f, "precision", id->precision, sizeof id->precision));
    id->seed = (uint64_t)seed;
    id->weights = strcmp(weights, "ema") == 0;
fail:
    return rc;
}

// A file for views [0, views) of the identity's samples.
static int create_file(struct h5file *f, const char *path, const struct logit_identity *id,
                       int64_t views)
{
    hsize_t dims[3] = {(hsize_t)views, (hsize_t)id->samples, (hsize_t)id->classes};
    uint64_t row = (uint64_t)id->classes * 2 + 8;
    hid_t half = half_type();
    int rc = RETORT_OK;
    TRY(h5file_create(f, path, H5_KIND_LOGITS, LOGITS_VERSION));
    TRY(h5file_reserve(f, (uint64_t)(views * id->samples) * row));
    TRY(write_identity(f->id, id));
    TRY(h5_write_array(f->id, LOGITS, half, 3, dims, NULL));
    TRY(h5_write_array(f->id, DIGESTS, H5T_NATIVE_UINT64, 2, dims, NULL));
fail:
    H5Tclose(half);
    return rc;
}

struct rows { // [first, first + count) of one view
    int64_t view, first, count;
};

// Moves rows between memory and /logits or /pixels_xxh3; `width` elements a row (0: none).
static int move_rows(hid_t file, const char *name, hid_t type, struct rows r, int64_t width,
                     void *data, bool write)
{
    hsize_t start[3] = {(hsize_t)r.view, (hsize_t)r.first, 0};
    hsize_t count[3] = {1, (hsize_t)r.count, (hsize_t)width};
    int rank = width ? 3 : 2;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = set < 0 ? -1 : H5Dget_space(set);
    hid_t memory = H5Screate_simple(rank, count, NULL);
    bool ok = set >= 0 && space >= 0 && memory >= 0 &&
              H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    if (ok && write)
        ok = H5Dwrite(set, type, memory, space, H5P_DEFAULT, data) >= 0;
    else if (ok)
        ok = H5Dread(set, type, memory, space, H5P_DEFAULT, data) >= 0;
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
    return ok ? RETORT_OK : RETORT_FAILED;
}

static int write_both(struct h5file *f, struct rows r, int64_t classes, const uint16_t *logits,
                      const uint64_t *digests)
{
    hid_t half = half_type();
    bool ok =
        move_rows(f->id, LOGITS, half, r, classes, (void *)(uintptr_t)logits, true) == 0 &&
        move_rows(f->id, DIGESTS, H5T_NATIVE_UINT64, r, 0, (void *)(uintptr_t)digests, true) == 0;
    H5Tclose(half);
    if (!ok)
        return FAIL(RETORT_WRITE, "cannot write logits to %s; is the disk full?", f->path);
    return RETORT_OK;
}

int logit_store_read(const struct logit_store *s, int64_t view, int64_t first, int64_t count,
                     uint16_t *logits, uint64_t *digests)
{
    struct rows r = {view, first, count};
    hid_t half = half_type();
    bool ok = true;
    if (logits)
        ok = move_rows(s->file.id, LOGITS, half, r, s->identity.classes, logits, false) == 0;
    if (ok && digests)
        ok = move_rows(s->file.id, DIGESTS, H5T_NATIVE_UINT64, r, 0, digests, false) == 0;
    H5Tclose(half);
    if (!ok)
        return FAIL(RETORT_INPUT, "cannot read view %lld, samples from %lld of %s", (long long)view,
                    (long long)first, s->file.path);
    return RETORT_OK;
}

static int check_shape(const struct logit_store *s, int64_t views)
{
    const struct logit_identity *id = &s->identity;
    hsize_t dims[8];
    int rank, rc = h5_shape(&s->file, LOGITS, &rank, dims);
    if (rc != RETORT_OK)
        return rc;
    if (rank != 3 || dims[0] != (hsize_t)views || dims[1] != (hsize_t)id->samples ||
        dims[2] != (hsize_t)id->classes)
        return FAIL(RETORT_INPUT, "%s: /logits has not the shape its attributes say", s->file.path);
    return RETORT_OK;
}

static int open_store(struct logit_store *s, const char *path, bool quiet, bool part)
{
    int rc = RETORT_OK;
    TRY(h5file_open(&s->file, path, H5_KIND_LOGITS, quiet));
    TRY(read_identity(&s->file, &s->identity));
    TRY(check_shape(s, part ? 1 : s->identity.views));
    return RETORT_OK;
fail:
    logit_store_close(s);
    return rc;
}

int logit_store_open(struct logit_store *s, const char *path, bool quiet)
{
    memset(s, 0, sizeof *s);
    s->file.id = -1;
    return open_store(s, path, quiet, false);
}

void logit_store_close(struct logit_store *s)
{
    h5file_close(&s->file);
}

bool logit_identity_matches(const struct logit_identity *stored,
                            const struct logit_identity *wanted, char *why, size_t why_bytes)
{
    const struct {
        const char *what;
        bool same;
    } PARTS[] = {
        {"the data set", strcmp(stored->dataset, wanted->dataset) == 0},
        {"the number of samples", stored->samples == wanted->samples},
        {"the number of classes", stored->classes == wanted->classes},
        {"the number of views", stored->views == wanted->views},
        {"the seed", stored->seed == wanted->seed},
        {"the augmentation", stored->augment == wanted->augment},
        {"the teacher's weights",
         !wanted->teacher[0] || strcmp(stored->teacher, wanted->teacher) == 0},
    };
    bool all = true;
    size_t used = 0;
    why[0] = '\0';
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        if (PARTS[i].same)
            continue;
        int n = snprintf(why + used, why_bytes - used, "%s%s", all ? "" : ", ", PARTS[i].what);
        used += n > 0 && (size_t)n < why_bytes - used ? (size_t)n : 0;
        all = false;
    }
    return all;
}

// Whether the part of a view is whole and of this identity; removed when it is not.
static bool part_is_done(const struct logit_writer *w, int64_t view)
{
    char path[PATH_CAPACITY], why[256];
    struct logit_store part = {.file = {.id = -1}};
    if (part_path(path, w->path, view) != RETORT_OK || !file_exists(path))
        return false;
    bool fits = open_store(&part, path, true, true) == RETORT_OK &&
                logit_identity_matches(&part.identity, &w->identity, why, sizeof why);
    logit_store_close(&part);
    if (!fits)
        (void)unlink(path);
    return fits;
}

static int begin_view(struct logit_writer *w)
{
    char path[PATH_CAPACITY];
    if (w->view >= w->identity.views)
        return RETORT_OK;
    int rc = part_path(path, w->path, w->view);
    return rc ? rc : create_file(&w->part, path, &w->identity, 1);
}

int logit_writer_create(struct logit_writer **out, const char *path,
                        const struct logit_identity *identity, int64_t *next_view)
{
    int rc = RETORT_OK;
    struct logit_writer *w = calloc(1, sizeof *w);
    if (!w)
        return FAIL(RETORT_MEMORY, "no memory to write logits");
    w->part.id = -1;
    w->identity = *identity;
    (void)snprintf(w->path, sizeof w->path, "%s", path);
    while (w->view < identity->views && part_is_done(w, w->view))
        w->view++;
    TRY(begin_view(w));
    *next_view = w->view;
    *out = w;
    return RETORT_OK;
fail:
    logit_writer_discard(&w);
    return rc;
}

int logit_writer_put(struct logit_writer *w, int64_t first, int64_t count, const uint16_t *logits,
                     const uint64_t *digests)
{
    return write_both(&w->part, (struct rows){0, first, count}, w->identity.classes, logits,
                      digests);
}

int logit_writer_end_view(struct logit_writer *w)
{
    int rc = h5file_commit(&w->part);
    if (rc != RETORT_OK)
        return rc;
    w->view++;
    return begin_view(w);
}

static int copy_view(struct logit_writer *w, struct h5file *to, int64_t view, uint16_t *logits,
                     uint64_t *digests, int64_t rows)
{
    char path[PATH_CAPACITY];
    struct logit_store part = {.file = {.id = -1}};
    int64_t samples = w->identity.samples;
    int rc = RETORT_OK;
    TRY(part_path(path, w->path, view));
    TRY(open_store(&part, path, false, true));
    for (int64_t first = 0; first < samples; first += rows) {
        int64_t count = samples - first < rows ? samples - first : rows;
        TRY(logit_store_read(&part, 0, first, count, logits, digests));
        TRY(write_both(to, (struct rows){view, first, count}, w->identity.classes, logits,
                       digests));
    }
fail:
    logit_store_close(&part);
    return rc;
}

static void remove_parts(const struct logit_writer *w)
{
    char path[PATH_CAPACITY];
    for (int64_t v = 0; v < w->identity.views; v++)
        if (part_path(path, w->path, v) == RETORT_OK)
            (void)unlink(path);
}

int logit_writer_commit(struct logit_writer **p)
{
    enum { ROWS = 4096 };
    struct logit_writer *w = *p;
    struct h5file whole = {.id = -1};
    uint16_t *logits = malloc((size_t)ROWS * (size_t)w->identity.classes * sizeof *logits);
    uint64_t *digests = malloc(ROWS * sizeof *digests);
    int rc = RETORT_OK;
    CHECK(w->view == w->identity.views);
    TRY_ELSE(logits && digests, RETORT_MEMORY, "no memory to write logits");
    TRY(create_file(&whole, w->path, &w->identity, w->identity.views));
    for (int64_t v = 0; v < w->identity.views; v++)
        TRY(copy_view(w, &whole, v, logits, digests, ROWS));
    TRY(h5file_commit(&whole));
    remove_parts(w);
fail:
    h5file_close(&whole);
    free(logits);
    free(digests);
    logit_writer_discard(p);
    return rc;
}

void logit_writer_discard(struct logit_writer **p)
{
    struct logit_writer *w = *p;
    if (!w)
        return;
    h5file_close(&w->part);
    free(w);
    *p = NULL;
}
