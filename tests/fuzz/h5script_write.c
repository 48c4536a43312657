// The second half of tests/fuzz/h5script.h: the file.

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "data/h5file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/h5script.h"

enum { WRITTEN_LIMIT = 1 << 18 }; // bytes of values; what claims more has none

static hid_t sized(hid_t base, size_t bytes)
{
    hid_t type = H5Tcopy(base);
    H5Tset_size(type, bytes);
    return type;
}

static hid_t text_type(void)
{
    hid_t type = sized(H5T_C_S1, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

static hid_t compound_type(void)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, 16);
    H5Tinsert(type, "a", 0, H5T_STD_I32LE);
    H5Tinsert(type, "b", 8, H5T_IEEE_F64LE);
    return type;
}

static hid_t file_type(enum script_type type)
{
    const hsize_t three[2] = {3, 3};
    switch (type) {
    case SCRIPT_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case SCRIPT_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case SCRIPT_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case SCRIPT_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case SCRIPT_F16:
        return half_type();
    case SCRIPT_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case SCRIPT_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case SCRIPT_TEXT:
        return text_type();
    case SCRIPT_FIXED:
        return sized(H5T_C_S1, 5);
    case SCRIPT_I32_BIG:
        return H5Tcopy(H5T_STD_I32BE);
    case SCRIPT_WIDE:
        return sized(H5T_C_S1, 70000);
    case SCRIPT_COMPOUND:
        return compound_type();
    case SCRIPT_LIST:
        return H5Tvlen_create(H5T_STD_I32LE);
    case SCRIPT_OPAQUE:
        return H5Tcreate(H5T_OPAQUE, 16);
    case SCRIPT_MATRIX:
        return H5Tarray_create2(H5T_IEEE_F32LE, 2, three);
    case SCRIPT_REFERENCE:
        return H5Tcopy(H5T_STD_REF_OBJ);
    case SCRIPT_TYPES:
        break;
    }
    return H5Tcopy(H5T_STD_U8LE);
}

// The shape; a dimension of an attribute is kept small, since its space is taken at once.
static hid_t file_space(const struct script_member *m)
{
    hsize_t dims[SCRIPT_RANK];
    for (int i = 0; i < m->rank; i++)
        dims[i] = m->dims[i];
    return m->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(m->rank, dims, NULL);
}

// What a shape asks for, or more than WRITTEN_LIMIT.
static size_t wanted_bytes(hid_t type, const struct script_member *m)
{
    size_t bytes = H5Tget_size(type);
    for (int i = 0; i < m->rank; i++) {
        if (m->dims[i] > WRITTEN_LIMIT)
            return WRITTEN_LIMIT + 1;
        bytes *= (size_t)m->dims[i];
        if (bytes > WRITTEN_LIMIT)
            return WRITTEN_LIMIT + 1;
    }
    return bytes;
}

uint8_t *script_values(const struct script_member *m, size_t bytes)
{
    uint8_t *out = calloc(bytes + 1, 1);
    CHECK(out);
    for (size_t i = 0; i < bytes && m->bytes > 0; i++)
        out[i] = m->values[i % m->bytes];
    return out;
}

// Texts of variable length; the same in every element.
static void write_texts(const struct script_member *m, size_t count, hid_t type, hid_t attribute)
{
    char *text = strndup((const char *)m->values, m->bytes);
    const char **all = calloc(count + 1, sizeof *all);
    CHECK(text && all);
    for (size_t i = 0; i < count; i++)
        all[i] = text;
    H5Awrite(attribute, type, all);
    free(all);
    free(text);
}

static void write_attribute(hid_t file, const struct script_member *m)
{
    hid_t type = file_type(m->type), space = file_space(m);
    size_t bytes = wanted_bytes(type, m);
    hid_t id = -1;
    if (m->link == LINK_NONE && bytes <= WRITTEN_LIMIT)
        id = H5Acreate2(file, m->name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (id >= 0 && m->type == SCRIPT_TEXT) {
        write_texts(m, bytes / H5Tget_size(type), type, id);
    } else if (id >= 0 && m->type != SCRIPT_LIST) {
        uint8_t *values = script_values(m, bytes);
        H5Awrite(id, type, values);
        free(values);
    }
    if (id >= 0)
        H5Aclose(id);
    H5Sclose(space);
    H5Tclose(type);
}

static hid_t creation_properties(const struct script_member *m)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[SCRIPT_RANK];
    for (int i = 0; i < m->rank; i++)
        chunk[i] = m->dims[i] > 0 && m->dims[i] < 4 ? m->dims[i] : 4;
    if (m->layout == LAYOUT_COMPACT)
        H5Pset_layout(dcpl, H5D_COMPACT);
    else if (m->layout == LAYOUT_CHUNKED && m->rank > 0)
        H5Pset_chunk(dcpl, m->rank, chunk);
    else if (m->layout == LAYOUT_EXTERNAL)
        H5Pset_external(dcpl, "/etc/hostname", 0, H5F_UNLIMITED);
    if (m->layout == LAYOUT_CONTIGUOUS)
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    else if (m->layout == LAYOUT_UNALLOCATED)
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_LATE);
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    return dcpl;
}

static void write_array(hid_t file, hid_t lcpl, struct script_member *m)
{
    hid_t type = file_type(m->type), space = file_space(m);
    size_t bytes = wanted_bytes(type, m);
    if (bytes > WRITTEN_LIMIT && m->layout == LAYOUT_CONTIGUOUS)
        m->layout = LAYOUT_UNALLOCATED;
    hid_t dcpl = creation_properties(m);
    hid_t id = H5Dcreate2(file, m->name, type, space, lcpl, dcpl, H5P_DEFAULT);
    bool written = m->layout != LAYOUT_UNALLOCATED && m->layout != LAYOUT_EXTERNAL &&
                   m->type != SCRIPT_TEXT && m->type != SCRIPT_LIST && bytes <= WRITTEN_LIMIT;
    if (id >= 0 && written) {
        uint8_t *values = script_values(m, bytes);
        H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
        free(values);
    }
    if (id >= 0)
        H5Dclose(id);
    H5Pclose(dcpl);
    H5Sclose(space);
    H5Tclose(type);
}

static void write_link(hid_t file, hid_t lcpl, const struct script_file *f,
                       const struct script_member *m)
{
    const char *to = f->arrays[m->link_to % f->array_count].name;
    hid_t group;
    switch (m->link) {
    case LINK_SOFT:
        H5Lcreate_soft(to, file, m->name, lcpl, H5P_DEFAULT);
        break;
    case LINK_EXTERNAL:
        H5Lcreate_external("/proc/self/exe", to, file, m->name, lcpl, H5P_DEFAULT);
        break;
    case LINK_CYCLE:
    case LINK_GROUP:
        group = H5Gcreate2(file, m->name, lcpl, H5P_DEFAULT, H5P_DEFAULT);
        for (char name[2] = "a"; m->link == LINK_CYCLE && name[0] < 'e'; name[0]++)
            H5Lcreate_hard(group, ".", group, name, H5P_DEFAULT, H5P_DEFAULT);
        if (group >= 0)
            H5Gclose(group);
        break;
    default:
        break; // nothing
    }
}

static void write_members(hid_t file, const struct script_file *f)
{
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(lcpl, 1);
    for (int i = 0; i < f->array_count; i++) {
        struct script_member m = f->arrays[i];
        if (m.link == LINK_NONE)
            write_array(file, lcpl, &m);
        else
            write_link(file, lcpl, f, &m);
    }
    for (int i = 0; i < f->attribute_count; i++)
        write_attribute(file, &f->attributes[i]);
    H5Pclose(lcpl);
}

// Where the arrays that are sample regions came to lie.
static void find_regions(hid_t file, const struct script_file *f, struct userblock *u)
{
    for (int i = 0; i < f->array_count; i++) {
        const struct script_member *m = &f->arrays[i];
        hid_t id = m->region && m->link == LINK_NONE ? H5Dopen2(file, m->name, H5P_DEFAULT) : -1;
        if (id < 0)
            continue;
        haddr_t offset = H5Dget_offset(id);
        hsize_t length = H5Dget_storage_size(id);
        if (offset != HADDR_UNDEF && length > 0)
            u->regions[u->region_count++] = (struct userblock_region){offset, length};
        H5Dclose(id);
    }
}

static void put_userblock(const char *path, const struct script_file *f, struct userblock *u)
{
    static const char *const kinds[] = {"", "dataset", "logits", "checkpoint", "other", "\xff"};
    uint8_t bytes[USERBLOCK_BYTES];
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &status) == 0);
    const char *kind = kinds[f->block.kind % (sizeof kinds / sizeof kinds[0])];
    (void)snprintf(u->kind, sizeof u->kind, "%s", kind[0] ? kind : f->kind);
    u->version = 1 + f->block.version;
    u->file_bytes = (uint64_t)status.st_size;
    if (u->region_count > 0) {
        u->regions[0].offset += f->block.offset;
        u->regions[0].length += f->block.length;
    }
    // A block that makes no sense keeps what it says: it is refused before the checksum is made.
    if (userblock_order_regions(u))
        CHECK(userblock_checksum(u, fd, &u->checksum) == 0);
    u->file_bytes += f->block.file_bytes;
    u->checksum += f->block.checksum;
    userblock_encode(u, bytes);
    CHECK(pwrite(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
    close(fd);
}

const char *script_write(const struct script_file *f)
{
    const char *path = fuzz_file(NULL, 0);
    struct userblock u = {0};
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    if (f->latest)
        H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    H5Pset_userblock(fcpl, USERBLOCK_BYTES);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl);
    CHECK(file >= 0);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    write_members(file, f);
    find_regions(file, f, &u);
    H5Fclose(file);
    put_userblock(path, f, &u);
    return path;
}
