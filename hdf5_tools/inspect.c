#include "hdf5_tools/inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/dataset.h"

enum { RANK_LIMIT = 32, NAME_LIMIT = 1024, DEPTH_LIMIT = 16, TEXT_SHOWN = 400 };
// Of an attribute's numbers, and of what is listed: groups may lie in themselves.
enum { COUNT_LIMIT = 1024, LINK_LIMIT = 1000 };

// "u8", "i64", "f16", "text", …
static void type_name(hid_t type, char out[32])
{
    int bits = (int)(8 * H5Tget_size(type));
    switch (H5Tget_class(type)) {
    case H5T_INTEGER:
        snprintf(out, 32, "%c%d", H5Tget_sign(type) == H5T_SGN_NONE ? 'u' : 'i', bits);
        break;
    case H5T_FLOAT:
        snprintf(out, 32, "f%d", bits);
        break;
    case H5T_STRING:
        snprintf(out, 32, "text");
        break;
    default:
        snprintf(out, 32, "other");
    }
}

static json_t *describe_shape(hid_t space)
{
    hsize_t dims[RANK_LIMIT] = {0};
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    json_t *shape = json_array();
    for (int i = 0; i < rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)dims[i]));
    return shape;
}

// The value of an attribute: a text, a number, a list of numbers, or NULL for any other.
static json_t *attribute_value(const struct h5file *f, const char *name, hid_t attribute)
{
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    json_t *value = NULL;
    char *text = NULL;
    int64_t whole = 0;
    double *numbers = NULL;
    if (H5Tis_variable_str(type) > 0) {
        if (h5_read_text(f, f->id, name, &text) == RETORT_OK)
            value = json_string(text);
    } else if (H5Tget_class(type) == H5T_INTEGER && count == 1) {
        if (h5_read_i64(f, f->id, name, &whole) == RETORT_OK)
            value = json_integer(whole);
    } else if (H5Tget_class(type) == H5T_FLOAT && count > 0 && count <= COUNT_LIMIT &&
               (numbers = malloc((size_t)count * sizeof *numbers)) != NULL &&
               h5_read_f64s(f, f->id, name, numbers, (size_t)count) == RETORT_OK) {
        value = json_array();
        for (hssize_t i = 0; i < count; i++)
            json_array_append_new(value, json_real(numbers[i]));
    }
    free(numbers);
    free(text);
    H5Sclose(space);
    H5Tclose(type);
    return value ? value : json_null();
}

static json_t *describe_attributes(const struct h5file *f)
{
    json_t *out = json_object();
    for (hsize_t i = 0;; i++) {
        hid_t attribute =
            H5Aopen_by_idx(f->id, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
        if (attribute < 0)
            return out; // past the last
        char name[NAME_LIMIT];
        H5Aget_name(attribute, sizeof name, name);
        json_object_set_new(out, name, attribute_value(f, name, attribute));
        H5Aclose(attribute);
    }
}

static void describe_dataset(hid_t dataset, const char *path, json_t *out)
{
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    char type_text[32];
    type_name(type, type_text);
    json_array_append_new(out, json_pack("{s:s, s:o, s:s}", "name", path, "shape",
                                         describe_shape(space), "type", type_text));
    H5Sclose(space);
    H5Tclose(type);
}

// Appends the datasets of a group and of the groups in it; `left` counts down the links looked at.
static void describe_group(hid_t group, const char *prefix, int depth, int *left, json_t *out)
{
    H5G_info_t info;
    if (depth > DEPTH_LIMIT || H5Gget_info(group, &info) < 0)
        return;
    for (hsize_t i = 0; i < info.nlinks && (*left)-- > 0; i++) {
        char name[NAME_LIMIT], path[2 * NAME_LIMIT];
        if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name,
                               H5P_DEFAULT) < 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", prefix, name) >= (int)sizeof path)
            continue;
        hid_t object = h5_open_object(group, name);
        if (object < 0)
            continue;
        if (H5Iget_type(object) == H5I_DATASET)
            describe_dataset(object, path, out);
        else if (H5Iget_type(object) == H5I_GROUP)
            describe_group(object, path, depth + 1, left, out);
        H5Oclose(object);
    }
}

static int add_dataset_facts(const char *path, json_t *out)
{
    struct dataset d;
    int rc = dataset_open(&d, path);
    if (rc != RETORT_OK)
        return rc;
    json_t *facts =
        json_pack("{s:I, s:I, s:i, s:i, s:i, s:[f,f,f], s:[f,f,f], s:s}", "train",
                  (json_int_t)d.count[SPLIT_TRAIN], "val", (json_int_t)d.count[SPLIT_VAL],
                  "classes", d.class_count, "height", d.height, "width", d.width, "mean", d.mean[0],
                  d.mean[1], d.mean[2], "deviation", d.deviation[0], d.deviation[1], d.deviation[2],
                  "fingerprint", d.fingerprint);
    dataset_close(&d);
    if (!facts || json_object_update(out, facts) != 0)
        rc = FAIL(RETORT_MEMORY, "out of memory");
    json_decref(facts);
    return rc;
}

int inspect_describe(const char *path, json_t **out)
{
    struct h5file f;
    *out = NULL;
    int rc = h5file_open(&f, path, NULL, false);
    if (rc != RETORT_OK)
        return rc;
    f.quiet = true; // a value that cannot be read is described as null
    int left = LINK_LIMIT;
    json_t *datasets = json_array();
    describe_group(f.id, "", 0, &left, datasets);
    *out = json_pack("{s:s, s:s, s:i, s:I, s:s, s:o, s:o}", "file", path, "kind", f.kind, "version",
                     (int)f.version, "bytes", (json_int_t)file_size(path), "structure", "whole",
                     "attributes", describe_attributes(&f), "datasets", datasets);
    bool is_dataset = strcmp(f.kind, H5_KIND_DATASET) == 0;
    h5file_close(&f);
    rc = *out ? RETORT_OK : FAIL(RETORT_INPUT, "%s: a name in it is no valid UTF-8", path);
    if (rc == RETORT_OK && is_dataset)
        rc = add_dataset_facts(path, *out);
    if (rc != RETORT_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

// A value on one line: texts as they are, cut where they are long or have lines; others as JSON.
static void print_value(const char *name, const json_t *value)
{
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        size_t shown = strcspn(text, "\n");
        if (shown > TEXT_SHOWN)
            shown = TEXT_SHOWN;
        printf("  %-12s %.*s%s\n", name, (int)shown, text, text[shown] ? " ..." : "");
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
    printf("  %-12s %s\n", name, text ? text : "");
    free(text);
}

static void print_text(const json_t *d)
{
    char bytes[32];
    format_bytes((double)json_integer_value(json_object_get(d, "bytes")), bytes, sizeof bytes);
    const char *kind = json_string_value(json_object_get(d, "kind"));
    printf("%s: %s, format version %d, %s; its structure is whole%s\n",
           json_string_value(json_object_get(d, "file")), kind,
           (int)json_integer_value(json_object_get(d, "version")), bytes,
           json_object_get(d, "train") ? " (\"retort verify\" checks the pictures too)" : "");
    static const char *const facts[] = {"train", "val", "classes", "height", "width"};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (json_object_get(d, facts[i]))
            print_value(facts[i], json_object_get(d, facts[i]));
    const char *name;
    const json_t *value;
    json_object_foreach(json_object_get(d, "attributes"), name, value) print_value(name, value);
    size_t index;
    printf("datasets\n");
    json_array_foreach(json_object_get(d, "datasets"), index, value)
    {
        char *shape = json_dumps(json_object_get(value, "shape"), JSON_COMPACT);
        printf("  %-20s %s %s\n", json_string_value(json_object_get(value, "name")),
               json_string_value(json_object_get(value, "type")), shape ? shape : "");
        free(shape);
    }
}

int inspect(const char *path, bool as_json)
{
    json_t *description;
    int rc = inspect_describe(path, &description);
    if (rc != RETORT_OK)
        return rc;
    if (as_json) {
        json_dumpf(description, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        print_text(description);
    }
    json_decref(description);
    if (fflush(stdout) != 0)
        return FAIL(RETORT_WRITE, "cannot write to standard output");
    return RETORT_OK;
}
