#include "data/logits.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"
#include "data/logits_file.h"

static const char LOGITS[] = "/logits", DIGESTS[] = "/pixels_xxh3";

// IEEE half precision, little-endian: what h5py reads as float16.
static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

uint64_t logits_view_bytes(const struct logit_identity *id)
{
    return (uint64_t)id->samples *
           ((uint64_t)id->classes * sizeof(uint16_t) + sizeof(uint64_t)); // logits and digest
}

static int write_identity(hid_t file, const struct logit_identity *id)
{
    int rc;
    TRY(h5_write_i64(file, "views", id->views));
    TRY(h5_write_i64(file, "seed", (int64_t)id->seed));
    TRY(h5_write_i64(file, "augment", id->augment));
    TRY(h5_write_text(file, "weights", id->weights == WEIGHTS_EMA ? "ema" : "raw"));
    TRY(h5_write_text(file, "dataset", id->dataset));
    TRY(h5_write_text(file, "teacher", id->teacher));
    TRY(h5_write_text(file, "precision", id->precision));
    TRY(h5_write_text(file, "created_by", "retort"));
fail:
    return rc;
}

static int read_text(const struct h5file *f, const char *name, char *out, size_t out_bytes)
{
    int rc;
    char *text = NULL;
    TRY(h5_read_text(f, f->id, name, &text));
    if (strlen(text) >= out_bytes)
        TRY(h5file_refuse(f, "%s: attribute %s is too long", f->path, name));
    memcpy(out, text, strlen(text) + 1);
fail:
    free(text);
    return rc;
}

static int read_identity(const struct h5file *f, struct logit_identity *id)
{
    int rc;
    int64_t seed = 0;
    char weights[8] = "";
    TRY(h5_read_i64(f, f->id, "views", &id->views));
    TRY(h5_read_i64(f, f->id, "seed", &seed));
    TRY(h5_read_i64(f, f->id, "augment", &id->augment));
    TRY(read_text(f, "weights", weights, sizeof weights));
    TRY(read_text(f, "dataset", id->dataset, sizeof id->dataset));
    TRY(read_text(f, "teacher", id->teacher, sizeof id->teacher));
    TRY(read_text(f, "precision", id->precision, sizeof id->precision));
    id->seed = (uint64_t)seed;
    id->weights = strcmp(weights, "ema") == 0 ? WEIGHTS_EMA : WEIGHTS_RAW;
fail:
    return rc;
}

// Samples and classes are the shape's.
static int read_shape(struct logit_store *s, int64_t views)
{
    hsize_t logits[8] = {0}, digests[8] = {0};
    int logits_rank = 0, digests_rank = 0, rc;
    TRY(h5_shape(&s->file, LOGITS, &logits_rank, logits));
    TRY(h5_shape(&s->file, DIGESTS, &digests_rank, digests));
    if (views == 0)
        views = s->identity.views;
    if (logits_rank != 3 || digests_rank != 2 || views < 1 || logits[0] != (hsize_t)views ||
        digests[0] != logits[0] || digests[1] != logits[1] || logits[1] < 1 || logits[2] < 1)
        TRY(h5file_refuse(&s->file, "%s: it does not hold %lld views of logits and digests",
                          s->file.path, (long long)views));
    s->identity.samples = (int64_t)logits[1];
    s->identity.classes = (int64_t)logits[2];
fail:
    return rc;
}

int logits_file_open(struct logit_store *s, const char *path, int64_t views, bool quiet)
{
    memset(s, 0, sizeof *s);
    int rc = h5file_open(&s->file, path, H5_KIND_LOGITS, quiet);
    if (rc != RETORT_OK)
        return rc;
    TRY(read_identity(&s->file, &s->identity));
    TRY(read_shape(s, views));
    return RETORT_OK;
fail:
    logit_store_close(s);
    return rc;
}

int logit_store_open(struct logit_store *s, const char *path, bool quiet)
{
    return logits_file_open(s, path, 0, quiet);
}

void logit_store_close(struct logit_store *s)
{
    h5file_close(&s->file);
}

int logits_file_create(struct h5file *f, const char *path, const struct logit_identity *id,
                       int64_t views)
{
    int rc = h5file_create(f, path, H5_KIND_LOGITS, LOGITS_VERSION);
    if (rc != RETORT_OK)
        return rc;
    hsize_t dims[3] = {(hsize_t)views, (hsize_t)id->samples, (hsize_t)id->classes};
    hid_t half = half_type();
    TRY(h5file_reserve(f, (uint64_t)views * logits_view_bytes(id)));
    TRY(write_identity(f->id, id));
    TRY(h5_write_array(f->id, LOGITS, half, 3, dims, NULL));
    TRY(h5_write_array(f->id, DIGESTS, H5T_NATIVE_UINT64, 2, dims, NULL));
fail:
    H5Tclose(half);
    if (rc != RETORT_OK)
        h5file_close(f);
    return rc;
}

// The part of a dataset that `r` says, `width` elements a sample (0: one, of two dimensions), as
// file and memory spaces; the dataset, or < 0 when it has no such rows.
static hid_t select_rows(hid_t file, const char *name, struct logit_rows r, int64_t width,
                         hid_t *in_file, hid_t *in_memory)
{
    hsize_t start[3] = {(hsize_t)r.view, (hsize_t)r.first, 0};
    hsize_t count[3] = {1, (hsize_t)r.count, (hsize_t)width};
    hid_t id = H5Dopen2(file, name, H5P_DEFAULT);
    *in_file = id < 0 ? -1 : H5Dget_space(id);
    *in_memory = H5Screate_simple(width > 0 ? 3 : 2, count, NULL);
    if (*in_file >= 0 && *in_memory >= 0 &&
        H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Sselect_valid(*in_file) > 0)
        return id;
    if (id >= 0)
        H5Dclose(id);
    return -1;
}

static void close_spaces(hid_t in_file, hid_t in_memory)
{
    if (in_file >= 0)
        H5Sclose(in_file);
    if (in_memory >= 0)
        H5Sclose(in_memory);
}

static bool write_rows(hid_t file, const char *name, hid_t type, struct logit_rows r, int64_t width,
                       const void *data)
{
    hid_t in_file, in_memory, id = select_rows(file, name, r, width, &in_file, &in_memory);
    bool done = id >= 0 && H5Dwrite(id, type, in_memory, in_file, H5P_DEFAULT, data) >= 0;
    close_spaces(in_file, in_memory);
    return id >= 0 && H5Dclose(id) >= 0 && done;
}

static bool read_rows(hid_t file, const char *name, hid_t type, struct logit_rows r, int64_t width,
                      void *data)
{
    hid_t in_file, in_memory, id = select_rows(file, name, r, width, &in_file, &in_memory);
    bool done = id >= 0 && H5Dread(id, type, in_memory, in_file, H5P_DEFAULT, data) >= 0;
    close_spaces(in_file, in_memory);
    return id >= 0 && H5Dclose(id) >= 0 && done;
}

int logits_file_write(const struct h5file *f, const struct logit_identity *id, struct logit_rows r,
                      const uint16_t *logits, const uint64_t *digests)
{
    if (r.count == 0)
        return RETORT_OK;
    hid_t half = half_type();
    bool done = write_rows(f->id, LOGITS, half, r, id->classes, logits) &&
                write_rows(f->id, DIGESTS, H5T_NATIVE_UINT64, r, 0, digests);
    H5Tclose(half);
    if (!done)
        return FAIL(RETORT_WRITE,
                    "cannot write logits of samples %lld to %lld to %s; the disk may "
                    "be full",
                    (long long)r.first, (long long)(r.first + r.count), f->path);
    return RETORT_OK;
}

int logit_store_read(const struct logit_store *s, int64_t view, int64_t first, int64_t count,
                     uint16_t *logits, uint64_t *digests)
{
    struct logit_rows r = {view, first, count};
    if (count == 0)
        return RETORT_OK;
    hid_t half = half_type();
    bool done = !logits || read_rows(s->file.id, LOGITS, half, r, s->identity.classes, logits);
    done = done && (!digests || read_rows(s->file.id, DIGESTS, H5T_NATIVE_UINT64, r, 0, digests));
    H5Tclose(half);
    if (!done)
        return FAIL(RETORT_INPUT, "cannot read samples %lld to %lld of view %lld of %s",
                    (long long)first, (long long)(first + count), (long long)view, s->file.path);
    return RETORT_OK;
}

bool logit_identity_matches(const struct logit_identity *stored,
                            const struct logit_identity *wanted, char *why, size_t why_bytes)
{
    const struct {
        const char *what;
        bool fits;
    } members[] = {
        {"the data set", strcmp(stored->dataset, wanted->dataset) == 0},
        {"the number of samples", stored->samples == wanted->samples},
        {"the number of classes", stored->classes == wanted->classes},
        {"the number of views", stored->views == wanted->views},
        {"the seed", stored->seed == wanted->seed},
        {"the augmentation", stored->augment == wanted->augment},
        {"the teacher", !wanted->teacher[0] || strcmp(stored->teacher, wanted->teacher) == 0},
    };
    bool all = true;
    size_t used = 0;
    why[0] = '\0';
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i].fits)
            continue;
        if (used < why_bytes)
            used += (size_t)snprintf(why + used, why_bytes - used, "%s%s", all ? "" : ", ",
                                     members[i].what);
        all = false;
    }
    return all;
}
