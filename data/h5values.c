// Attributes: the second part of data/h5file.h. Arrays are in data/h5arrays.c.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/h5file.h"

// The destination's name of the file that `object` is in: "<path>.<pid>.partial" without its end.
static void destination_name(hid_t object, char out[PATH_CAPACITY])
{
    if (H5Fget_name(object, out, PATH_CAPACITY) < 0) {
        snprintf(out, PATH_CAPACITY, "the HDF5 file");
        return;
    }
    size_t length = strlen(out);
    const char *ending = ".partial";
    if (length <= strlen(ending) || strcmp(out + length - strlen(ending), ending) != 0)
        return;
    out[length - strlen(ending)] = '\0';
    char *dot = strrchr(out, '.');
    if (dot)
        *dot = '\0';
}

int h5_write_failed(hid_t object, const char *name)
{
    int why = errno;
    char path[PATH_CAPACITY];
    destination_name(object, path);
    return FAIL(RETORT_WRITE, "cannot write %s of %s: %s", name, path,
                why ? strerror(why) : "the HDF5 library failed");
}

static int write_attribute(hid_t object, const char *name, hid_t type, hid_t space,
                           const void *value)
{
    errno = 0;
    hid_t id = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t status = id < 0 ? -1 : H5Awrite(id, type, value);
    if (id >= 0 && H5Aclose(id) < 0)
        status = -1;
    return status < 0 ? h5_write_failed(object, name) : RETORT_OK;
}

// A UTF-8 string of any length, as h5py reads into str.
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

int h5_write_text(hid_t object, const char *name, const char *text)
{
    hid_t type = text_type();
    hid_t space = H5Screate(H5S_SCALAR);
    int rc = write_attribute(object, name, type, space, &text);
    H5Sclose(space);
    H5Tclose(type);
    return rc;
}

int h5_write_i64(hid_t object, const char *name, int64_t value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    int rc = write_attribute(object, name, H5T_NATIVE_INT64, space, &value);
    H5Sclose(space);
    return rc;
}

int h5_write_f64s(hid_t object, const char *name, const double *values, size_t count)
{
    hsize_t dims[1] = {count};
    hid_t space = H5Screate_simple(1, dims, NULL);
    int rc = write_attribute(object, name, H5T_NATIVE_DOUBLE, space, values);
    H5Sclose(space);
    return rc;
}

// Opens an attribute of `count` values of class `wanted`.
static int open_attribute(const struct h5file *f, hid_t object, const char *name,
                          H5T_class_t wanted, size_t count, hid_t *out)
{
    *out = -1;
    if (H5Aexists(object, name) <= 0)
        return h5file_refuse(f, "%s has no attribute %s", f->path, name);
    hid_t id = H5Aopen(object, name, H5P_DEFAULT);
    hid_t space = H5Aget_space(id);
    hid_t type = H5Aget_type(id);
    bool fits =
        H5Sget_simple_extent_npoints(space) == (hssize_t)count && H5Tget_class(type) == wanted;
    H5Tclose(type);
    H5Sclose(space);
    if (fits) {
        *out = id;
        return RETORT_OK;
    }
    H5Aclose(id);
    return h5file_refuse(f, "%s: attribute %s has another shape or type than expected", f->path,
                         name);
}

static int read_failed(const struct h5file *f, const char *name)
{
    return h5file_refuse(f, "cannot read %s of %s", name, f->path);
}

static int read_numbers(const struct h5file *f, hid_t object, const char *name, H5T_class_t wanted,
                        hid_t type, size_t count, void *out)
{
    hid_t id;
    int rc = open_attribute(f, object, name, wanted, count, &id);
    if (rc != RETORT_OK)
        return rc;
    herr_t status = H5Aread(id, type, out);
    H5Aclose(id);
    return status < 0 ? read_failed(f, name) : RETORT_OK;
}

int h5_read_i64(const struct h5file *f, hid_t object, const char *name, int64_t *out)
{
    return read_numbers(f, object, name, H5T_INTEGER, H5T_NATIVE_INT64, 1, out);
}

int h5_read_f64s(const struct h5file *f, hid_t object, const char *name, double *out, size_t count)
{
    return read_numbers(f, object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, count, out);
}

int h5_read_text(const struct h5file *f, hid_t object, const char *name, char **out)
{
    hid_t id;
    *out = NULL;
    int rc = open_attribute(f, object, name, H5T_STRING, 1, &id);
    if (rc != RETORT_OK)
        return rc;
    hid_t stored = H5Aget_type(id);
    hid_t type = text_type();
    char *text = NULL;
    if (H5Tis_variable_str(stored) <= 0)
        rc = h5file_refuse(f, "%s: attribute %s is no text of variable length", f->path, name);
    else if (H5Aread(id, type, &text) < 0)
        rc = read_failed(f, name);
    else if (!(*out = strdup(text ? text : "")))
        rc = FAIL(RETORT_MEMORY, "out of memory reading %s", f->path);
    if (text) {
        hid_t space = H5Aget_space(id);
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, &text);
        H5Sclose(space);
    }
    H5Tclose(type);
    H5Tclose(stored);
    H5Aclose(id);
    return rc;
}
