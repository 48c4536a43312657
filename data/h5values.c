// Attributes and arrays: the second half of data/h5file.h.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "data/h5file.h"

enum { RANK_LIMIT = 8 };

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

static int write_failed(hid_t object, const char *name)
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
    return status < 0 ? write_failed(object, name) : RETORT_OK;
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
        return FAIL(RETORT_INPUT, "%s has no attribute %s", f->path, name);
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
    return FAIL(RETORT_INPUT, "%s: attribute %s has another shape or type than expected", f->path,
                name);
}

static int read_failed(const struct h5file *f, const char *name)
{
    return FAIL(RETORT_INPUT, "cannot read %s of %s", name, f->path);
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
        rc = FAIL(RETORT_INPUT, "%s: attribute %s is no text of variable length", f->path, name);
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

// Contiguous, its space given at once, never pre-filled, and without a time stamp, so that the same
// content makes the same file.
static hid_t create_array(hid_t file, const char *name, hid_t type, hid_t space)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(dcpl, H5D_CONTIGUOUS);
    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(dcpl, false);
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(lcpl, 1);
    hid_t id = H5Dcreate2(file, name, type, space, lcpl, dcpl, H5P_DEFAULT);
    H5Pclose(lcpl);
    H5Pclose(dcpl);
    return id;
}

int h5_write_array(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims,
                   const void *data)
{
    CHECK(rank <= RANK_LIMIT);
    errno = 0;
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t id = create_array(file, name, type, space);
    herr_t status = id < 0 ? -1 : 0;
    if (id >= 0 && data && H5Sget_simple_extent_npoints(space) > 0)
        status = H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (id >= 0 && H5Dclose(id) < 0)
        status = -1;
    H5Sclose(space);
    return status < 0 ? write_failed(file, name) : RETORT_OK;
}

static bool same_type(hid_t dataset, hid_t wanted)
{
    hid_t type = H5Dget_type(dataset);
    bool same =
        H5Tget_class(type) == H5Tget_class(wanted) && H5Tget_size(type) == H5Tget_size(wanted);
    H5Tclose(type);
    return same;
}

int h5_shape(const struct h5file *f, const char *name, int *rank, hsize_t *dims)
{
    hid_t id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (id < 0)
        return FAIL(RETORT_INPUT, "%s has no dataset %s", f->path, name);
    hid_t space = H5Dget_space(id);
    *rank = H5Sget_simple_extent_ndims(space);
    bool fits = *rank >= 0 && *rank <= RANK_LIMIT;
    if (fits)
        H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    H5Dclose(id);
    return fits ? RETORT_OK
                : FAIL(RETORT_INPUT, "%s: %s has more than %d dimensions", f->path, name,
                       RANK_LIMIT);
}

int h5_read_array(const struct h5file *f, const char *name, hid_t type, int rank,
                  const hsize_t *dims, void *out)
{
    hsize_t stored[RANK_LIMIT] = {0};
    int stored_rank = 0;
    int rc = h5_shape(f, name, &stored_rank, stored);
    if (rc != RETORT_OK)
        return rc;
    if (stored_rank != rank || memcmp(stored, dims, (size_t)rank * sizeof *dims) != 0)
        return FAIL(RETORT_INPUT, "%s: %s has another shape than expected", f->path, name);
    hid_t id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (id < 0)
        return read_failed(f, name);
    if (!same_type(id, type))
        rc = FAIL(RETORT_INPUT, "%s: %s has another type than expected", f->path, name);
    else if (H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        rc = read_failed(f, name);
    H5Dclose(id);
    return rc;
}

// Selects rows of the leading dimension in `space`, and makes a memory space of their shape; < 0
// when they are not all there.
static hid_t select_rows(hid_t space, uint64_t first, uint64_t count)
{
    hsize_t dims[RANK_LIMIT] = {0}, start[RANK_LIMIT] = {0};
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 1 || rank > RANK_LIMIT || H5Sget_simple_extent_dims(space, dims, NULL) < 0)
        return -1;
    if (first > dims[0] || count > dims[0] - first)
        return -1;
    start[0] = first;
    dims[0] = count;
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dims, NULL) < 0)
        return -1;
    return H5Screate_simple(rank, dims, NULL);
}

int h5_write_rows(hid_t file, const char *name, hid_t type, uint64_t first, uint64_t count,
                  const void *data)
{
    if (count == 0)
        return RETORT_OK;
    errno = 0;
    hid_t id = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = id < 0 ? -1 : H5Dget_space(id);
    hid_t memory = space < 0 ? -1 : select_rows(space, first, count);
    herr_t status = memory < 0 ? -1 : H5Dwrite(id, type, memory, space, H5P_DEFAULT, data);
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (id >= 0 && H5Dclose(id) < 0)
        status = -1;
    return status < 0 ? write_failed(file, name) : RETORT_OK;
}

int h5_read_rows(const struct h5file *f, const char *name, hid_t type, uint64_t first,
                 uint64_t count, void *out)
{
    hid_t id = H5Dopen2(f->id, name, H5P_DEFAULT);
    if (id < 0)
        return FAIL(RETORT_INPUT, "%s has no dataset %s", f->path, name);
    hid_t space = H5Dget_space(id);
    hid_t memory = select_rows(space, first, count);
    int rc = RETORT_OK;
    if (memory < 0)
        rc = FAIL(RETORT_INPUT, "%s: %s has no rows %llu to %llu", f->path, name,
                  (unsigned long long)first, (unsigned long long)(first + count));
    else if (!same_type(id, type))
        rc = FAIL(RETORT_INPUT, "%s: %s has another type than expected", f->path, name);
    else if (count > 0 && H5Dread(id, type, memory, space, H5P_DEFAULT, out) < 0)
        rc = read_failed(f, name);
    if (memory >= 0)
        H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(id);
    return rc;
}
