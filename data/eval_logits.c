#include "data/eval_logits.h"

#include "base/error.h"

static hid_t real_h5(enum real_type real)
{
    return real == REAL_F64 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
}

static int write_texts(hid_t file, const struct eval_logits_header *header)
{
    int rc;
    TRY(h5_write_text(file, "split", dataset_split_name(header->split)));
    TRY(h5_write_text(file, "weights", header->weights));
    TRY(h5_write_text(file, "dataset", header->dataset));
    TRY(h5_write_text(file, "checkpoint", header->checkpoint));
    TRY(h5_write_text(file, "classes", header->class_names));
    TRY(h5_write_text(file, "created_by", "retort"));
fail:
    return rc;
}

int eval_logits_create(struct h5file *f, const char *path, const struct eval_logits_header *header)
{
    hsize_t dims[2] = {(hsize_t)header->count, (hsize_t)header->classes};
    int rc = h5file_create(f, path, H5_KIND_EVAL_LOGITS, EVAL_LOGITS_VERSION);
    if (rc != RETORT_OK)
        return rc;
    TRY(h5file_reserve(f, dims[0] * (dims[1] * real_bytes(header->real) + sizeof(int32_t))));
    TRY(write_texts(f->id, header));
    TRY(h5_write_array(f->id, "/logits", real_h5(header->real), 2, dims, NULL));
    TRY(h5_write_array(f->id, "/labels", H5T_NATIVE_INT32, 1, dims, header->labels));
fail:
    if (rc != RETORT_OK)
        h5file_close(f);
    return rc;
}

int eval_logits_put(const struct h5file *f, enum real_type real, int64_t first, int64_t count,
                    const void *logits)
{
    return h5_write_rows(f->id, "/logits", real_h5(real), (uint64_t)first, (uint64_t)count, logits);
}
