// The types of safetensors files, and reading them.

#include "data/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are used as they lie in files");

static const struct {
    const char *name;
    size_t bytes;
} TYPES[SAFETENSORS_TYPES] = {
    [SAFETENSORS_F64] = {"F64", 8},         [SAFETENSORS_F32] = {"F32", 4},
    [SAFETENSORS_F16] = {"F16", 2},         [SAFETENSORS_BF16] = {"BF16", 2},
    [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1}, [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1},
    [SAFETENSORS_I64] = {"I64", 8},         [SAFETENSORS_I32] = {"I32", 4},
    [SAFETENSORS_I16] = {"I16", 2},         [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_U64] = {"U64", 8},         [SAFETENSORS_U32] = {"U32", 4},
    [SAFETENSORS_U16] = {"U16", 2},         [SAFETENSORS_U8] = {"U8", 1},
    [SAFETENSORS_BOOL] = {"BOOL", 1},
};

const char *safetensors_type_name(enum safetensors_type type)
{
    return TYPES[type].name;
}

size_t safetensors_type_bytes(enum safetensors_type type)
{
    return TYPES[type].bytes;
}

// What is being read: the file's name, and the part behind its header.
struct source {
    const char *name;
    const char *data;
    size_t bytes;
};

static int refuse(const struct source *s, const char *tensor, const char *what)
{
    return FAIL(RETORT_INPUT, "%s is no whole safetensors file: tensor \"%.80s\" %s", s->name,
                tensor, what);
}

static int read_type(struct safetensor *t, const json_t *value, const struct source *s)
{
    const char *text = json_string_value(value);
    for (int i = 0; text && i < SAFETENSORS_TYPES; i++)
        if (strcmp(TYPES[i].name, text) == 0) {
            t->type = (enum safetensors_type)i;
            return RETORT_OK;
        }
    return refuse(s, t->name, text ? "has a type that is not known here" : "has no dtype");
}

// Shape and bytes: the product of the dimensions, checked against overflow.
static int read_shape(struct safetensor *t, const json_t *value, const struct source *s)
{
    size_t bytes = TYPES[t->type].bytes, i;
    const json_t *item;
    if (!json_is_array(value))
        return refuse(s, t->name, "has no shape");
    if (json_array_size(value) > SAFETENSORS_RANK)
        return refuse(s, t->name, "has more than 8 dimensions");
    t->rank = (int)json_array_size(value);
    json_array_foreach(value, i, item)
    {
        json_int_t size = json_integer_value(item);
        if (!json_is_integer(item) || size < 0)
            return refuse(s, t->name, "has a shape that is no list of sizes");
        if (__builtin_mul_overflow(bytes, (size_t)size, &bytes))
            return refuse(s, t->name, "is larger than any memory");
        t->shape[i] = size;
    }
    t->bytes = bytes;
    return RETORT_OK;
}

static int read_offsets(struct safetensor *t, const json_t *value, const struct source *s)
{
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        begin < 0 || end < begin)
        return refuse(s, t->name, "has data_offsets that are no range");
    if ((uint64_t)end > s->bytes)
        return refuse(s, t->name, "reaches past the end; the file may be cut off");
    if ((uint64_t)(end - begin) != t->bytes)
        return refuse(s, t->name, "has data_offsets that don't fit its shape and type");
    t->data = s->data + begin;
    return RETORT_OK;
}

static int read_tensor(struct safetensor *t, const char *name, const json_t *entry,
                       const struct source *s)
{
    int rc;
    t->name = name;
    if (!json_is_object(entry))
        return refuse(s, name, "is described by no JSON object");
    TRY(read_type(t, json_object_get(entry, "dtype"), s));
    TRY(read_shape(t, json_object_get(entry, "shape"), s));
    TRY(read_offsets(t, json_object_get(entry, "data_offsets"), s));
    if (json_object_size(entry) != 3)
        return refuse(s, name, "has members besides dtype, shape and data_offsets");
fail:
    return rc;
}

static int read_metadata(struct safetensors *out, const json_t *metadata, const struct source *s)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return FAIL(RETORT_INPUT, "%s: its __metadata__ is no JSON object", s->name);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return FAIL(RETORT_INPUT, "%s: \"%.80s\" of its __metadata__ is no text", s->name, key);
    }
    out->metadata = metadata;
    return RETORT_OK;
}

// By their bytes; empty ones, which may share a place, before the one that begins there.
static int by_place(const void *a, const void *b)
{
    const struct safetensor *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

// Every byte behind the header is of one tensor.
static int check_places(const struct safetensors *s, const struct source *from)
{
    const char *at = from->data;
    for (size_t i = 0; i < s->count; i++) {
        const struct safetensor *t = &s->tensors[i];
        if ((const char *)t->data != at)
            return refuse(from, t->name,
                          (const char *)t->data < at ? "overlaps the one before"
                                                     : "has a hole before it");
        at += t->bytes;
    }
    if (at != from->data + from->bytes)
        return FAIL(RETORT_INPUT,
                    "%s is no whole safetensors file: %zu bytes of it are no tensor's", from->name,
                    (size_t)(from->data + from->bytes - at));
    return RETORT_OK;
}

static int read_entries(struct safetensors *out, const struct source *s)
{
    int rc = RETORT_OK;
    const char *name;
    json_t *entry;
    out->tensors = calloc(json_object_size(out->header) + 1, sizeof *out->tensors);
    TRY_ELSE(out->tensors, RETORT_MEMORY, "no memory for the tensors of %s", s->name);
    json_object_foreach(out->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            TRY(read_metadata(out, entry, s));
        else
            TRY(read_tensor(&out->tensors[out->count++], name, entry, s));
    }
    qsort(out->tensors, out->count, sizeof *out->tensors, by_place);
    TRY(check_places(out, s));
fail:
    return rc;
}

int safetensors_parse(struct safetensors *out, const void *bytes, size_t byte_count,
                      const char *name)
{
    int rc = RETORT_OK;
    uint64_t length = 0;
    const char *header = (const char *)bytes + sizeof length;
    json_error_t why;
    memset(out, 0, sizeof *out);
    if (byte_count >= sizeof length)
        memcpy(&length, bytes, sizeof length);
    TRY_ELSE(byte_count > sizeof length && length > 0, RETORT_INPUT,
             "%s is no safetensors file: it has no header", name);
    TRY_ELSE(length <= SAFETENSORS_HEADER_LIMIT && header[0] == '{', RETORT_INPUT,
             "%s is no safetensors file: no JSON header stands at its beginning", name);
    TRY_ELSE(length <= byte_count - sizeof length, RETORT_INPUT,
             "%s is cut off: its header ends past the end of the file", name);
    out->header = json_loadb(header, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    TRY_ELSE(out->header, RETORT_INPUT, "%s is no safetensors file: its header is no JSON: %s",
             name, why.text);
    struct source source = {name, header + length, byte_count - sizeof length - (size_t)length};
    TRY(read_entries(out, &source));
    return RETORT_OK;
fail:
    safetensors_free(out);
    return rc;
}

int safetensors_read(struct safetensors *out, const char *path)
{
    char *file;
    size_t bytes;
    memset(out, 0, sizeof *out);
    int rc = file_read(path, SAFETENSORS_FILE_LIMIT, &file, &bytes);
    if (rc != RETORT_OK)
        return rc;
    rc = safetensors_parse(out, file, bytes, path);
    if (rc == RETORT_OK)
        out->file = file;
    else
        free(file);
    return rc;
}

void safetensors_free(struct safetensors *s)
{
    json_decref(s->header);
    free(s->tensors);
    free(s->file);
    memset(s, 0, sizeof *s);
}

const struct safetensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->tensors[i].name, name) == 0)
            return &s->tensors[i];
    return NULL;
}

const char *safetensors_text(const struct safetensors *s, const char *key)
{
    return json_string_value(json_object_get(s->metadata, key));
}
