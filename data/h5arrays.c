// Arrays: the third part of data/h5file.h.

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "data/h5file.h"

enum { RANK_LIMIT = 8 };

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
    return status < 0 ? h5_write_failed(file, name) : RETORT_OK;
}

static bool same_type(hid_t dataset, hid_t wanted)
{
    hid_t type = H5Dget_type(dataset);
    bool same =
        H5Tget_class(type) == H5Tget_class(wanted) && H5Tget_size(type) == H5Tget_size(wanted);
    H5Tclose(type);
    return same;
}

// Links to other files are not followed: only this one was checked.
static herr_t refuse_link(const char *file, const char *group, const char *other_file,
                          const char *object, unsigned *flags, hid_t access, void *data)
{
    (void)file, (void)group, (void)other_file, (void)object, (void)flags, (void)access, (void)data;
    return -1;
}

hid_t h5_open_object(hid_t group, const char *name)
{
    hid_t lapl = H5Pcreate(H5P_LINK_ACCESS);
    H5Pset_elink_cb(lapl, refuse_link, NULL);
    hid_t id = H5Oopen(group, name, lapl);
    H5Pclose(lapl);
    return id;
}

// Bytes of the values that a shape claims, or UINT64_MAX when they are more than the file's.
static uint64_t claimed_bytes(const struct h5file *f, hid_t type, hid_t space)
{
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    uint64_t bytes = H5Tget_size(type);
    for (int i = 0; i < rank; i++) {
        if (dims[i] > f->bytes || (dims[i] > 0 && bytes > f->bytes / dims[i]))
            return UINT64_MAX;
        bytes *= dims[i];
    }
    return rank < 0 ? UINT64_MAX : bytes;
}

static bool lies_in_file(const struct h5file *f, hid_t id)
{
    hid_t type = H5Dget_type(id), space = H5Dget_space(id), dcpl = H5Dget_create_plist(id);
    uint64_t bytes = claimed_bytes(f, type, space);
    bool fits = H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0;
    if (bytes > 0) {
        haddr_t offset = H5Dget_offset(id);
        fits = fits && H5Dget_storage_size(id) == bytes && offset <= f->bytes &&
               bytes <= f->bytes - offset;
    }
    H5Pclose(dcpl);
    H5Sclose(space);
    H5Tclose(type);
    return fits;
}

int h5_open_array(const struct h5file *f, const char *name, hid_t *out)
{
    hid_t id = h5_open_object(f->id, name);
    *out = -1;
    if (id < 0 || H5Iget_type(id) != H5I_DATASET) {
        if (id >= 0)
            H5Oclose(id);
        return h5file_refuse(f, "%s has no dataset %s", f->path, name);
    }
    if (lies_in_file(f, id)) {
        *out = id;
        return RETORT_OK;
    }
    H5Dclose(id);
    return h5file_refuse(f, "%s: the values that %s claims are not all in it, in one piece",
                         f->path, name);
}

int h5_shape(const struct h5file *f, const char *name, int *rank, hsize_t *dims)
{
    hid_t id;
    int rc = h5_open_array(f, name, &id);
    if (rc != RETORT_OK)
        return rc;
    hid_t space = H5Dget_space(id);
    *rank = H5Sget_simple_extent_ndims(space);
    bool fits = *rank >= 0 && *rank <= RANK_LIMIT;
    if (fits)
        H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    H5Dclose(id);
    return fits ? RETORT_OK
                : h5file_refuse(f, "%s: %s has more than %d dimensions", f->path, name, RANK_LIMIT);
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
        return h5file_refuse(f, "%s: %s has another shape than expected", f->path, name);
    hid_t id;
    rc = h5_open_array(f, name, &id);
    if (rc != RETORT_OK)
        return rc;
    if (!same_type(id, type))
        rc = h5file_refuse(f, "%s: %s has another type than expected", f->path, name);
    else if (H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        rc = h5file_refuse(f, "cannot read %s of %s", name, f->path);
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
    return status < 0 ? h5_write_failed(file, name) : RETORT_OK;
}

int h5_read_rows(const struct h5file *f, const char *name, hid_t type, uint64_t first,
                 uint64_t count, void *out)
{
    hid_t id;
    int rc = h5_open_array(f, name, &id);
    if (rc != RETORT_OK)
        return rc;
    hid_t space = H5Dget_space(id);
    hid_t memory = select_rows(space, first, count);
    if (memory < 0)
        rc = h5file_refuse(f, "%s: %s has no %llu rows from row %llu", f->path, name,
                           (unsigned long long)count, (unsigned long long)first);
    else if (!same_type(id, type))
        rc = h5file_refuse(f, "%s: %s has another type than expected", f->path, name);
    else if (count > 0 && H5Dread(id, type, memory, space, H5P_DEFAULT, out) < 0)
        rc = h5file_refuse(f, "cannot read %s of %s", name, f->path);
    if (memory >= 0)
        H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(id);
    return rc;
}
