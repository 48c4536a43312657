#include "tests/golden/golden_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/models/support.h"

hid_t golden_open(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), GOLDEN_FOLDER "/%s.h5", name);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        fail_msg("cannot open %s", path);
    return file;
}

double golden_number(hid_t file, const char *object, const char *attribute)
{
    double value = 0.0;
    hid_t a = H5Aopen_by_name(file, object, attribute, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0 || H5Aread(a, H5T_NATIVE_DOUBLE, &value) < 0)
        fail_msg("%s has no number %s", object, attribute);
    H5Aclose(a);
    return value;
}

void golden_text(hid_t file, const char *attribute, char *out, size_t out_bytes)
{
    hid_t a = H5Aopen(file, attribute, H5P_DEFAULT), type = H5Tcopy(H5T_C_S1);
    if (a < 0 || type < 0 || H5Tset_size(type, out_bytes) < 0 || H5Aread(a, type, out) < 0)
        fail_msg("the file has no text %s", attribute);
    H5Tclose(type);
    H5Aclose(a);
}

size_t golden_count(hid_t file, const char *path)
{
    hid_t set = H5Dopen2(file, path, H5P_DEFAULT);
    if (set < 0)
        fail_msg("there is no %s", path);
    hid_t space = H5Dget_space(set);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    H5Dclose(set);
    assert_true(count >= 0);
    return (size_t)count;
}

void golden_read(hid_t file, const char *path, hid_t type, void *out, size_t count)
{
    if (golden_count(file, path) != count)
        fail_msg("%s has %zu values, not %zu", path, golden_count(file, path), count);
    hid_t set = H5Dopen2(file, path, H5P_DEFAULT);
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        fail_msg("cannot read %s", path);
    H5Dclose(set);
}

double *golden_values(hid_t file, const char *path, size_t count)
{
    double *values = malloc((count + 1) * sizeof(*values));
    assert_non_null(values);
    golden_read(file, path, H5T_NATIVE_DOUBLE, values, count);
    return values;
}
