// Writing safetensors files: the second half of data/safetensors.h.

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "data/safetensors.h"

enum { ALIGNMENT = 8 }; // of the values, in the file

static json_t *describe(const struct safetensor *t, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s,s:o,s:[I,I]}", "dtype", safetensors_type_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)begin + (json_int_t)t->bytes);
}

// The header's JSON, the caller's to free(), and how many bytes of values it speaks of.
static int make_header(const json_t *metadata, const struct safetensor *tensors, size_t count,
                       char **out, size_t *value_bytes)
{
    int rc = RETORT_OK;
    json_t *header = json_object();
    size_t begin = 0;
    if (metadata)
        json_object_set(header, "__metadata__", (json_t *)metadata);
    for (size_t i = 0; i < count; i++) {
        TRY_ELSE(json_object_set_new(header, tensors[i].name, describe(&tensors[i], begin)) == 0,
                 RETORT_MEMORY, "no memory for the header of a safetensors file");
        begin += tensors[i].bytes;
    }
    *out = json_dumps(header, JSON_COMPACT);
    *value_bytes = begin;
    TRY_ELSE(*out, RETORT_MEMORY, "no memory for the header of a safetensors file");
fail:
    json_decref(header);
    return rc;
}

int safetensors_write(const char *path, const json_t *metadata, const struct safetensor *tensors,
                      size_t count)
{
    int rc;
    char *header = NULL, *file = NULL, *at;
    size_t value_bytes = 0, header_bytes;
    TRY(make_header(metadata, tensors, count, &header, &value_bytes));
    header_bytes = strlen(header);
    uint64_t padded = (header_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    file = malloc(sizeof padded + padded + value_bytes);
    TRY_ELSE(file, RETORT_MEMORY, "no memory to write %s", path);
    memcpy(file, &padded, sizeof padded);
    at = file + sizeof padded;
    memcpy(at, header, header_bytes);
    memset(at + header_bytes, ' ', padded - header_bytes);
    at += padded;
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].bytes > 0)
            memcpy(at, tensors[i].data, tensors[i].bytes);
        at += tensors[i].bytes;
    }
    TRY(file_write_whole(path, file, (size_t)(at - file)));
fail:
    free(header);
    free(file);
    return rc;
}
