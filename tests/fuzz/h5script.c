#include "tests/fuzz/h5script.h"

#include <hdf5.h>
#include <string.h>

#include "base/error.h"
#include "tests/fuzz/fuzz.h"

struct script_member *script_array(struct script_file *f, const char *name, enum script_type type,
                                   const uint64_t *dims, const void *values, size_t bytes)
{
    CHECK(f->array_count < SCRIPT_MEMBERS && bytes <= SCRIPT_VALUES);
    struct script_member *m = &f->arrays[f->array_count++];
    *m = (struct script_member){.name = name, .type = type, .bytes = bytes};
    for (; dims[m->rank]; m->rank++)
        m->dims[m->rank] = dims[m->rank];
    memcpy(m->values, values, bytes);
    return m;
}

struct script_member *script_numbers(struct script_file *f, const char *name, enum script_type type,
                                     int count, const void *values, size_t bytes)
{
    CHECK(f->attribute_count < SCRIPT_MEMBERS && bytes <= SCRIPT_VALUES);
    struct script_member *m = &f->attributes[f->attribute_count++];
    *m = (struct script_member){.name = name, .type = type, .bytes = bytes};
    m->rank = count > 1;
    m->dims[0] = (uint64_t)count;
    memcpy(m->values, values, bytes);
    return m;
}

struct script_member *script_text(struct script_file *f, const char *name, const char *text)
{
    return script_numbers(f, name, SCRIPT_TEXT, 1, text, strlen(text));
}

// The input, eaten from the front; zeros after its end.
struct reader {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct reader *r)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->at++;
}

// A shift and a byte, or eight bytes: small, huge and odd numbers are equally near.
static uint64_t take_number(struct reader *r)
{
    uint8_t form = take(r);
    uint64_t value = 0;
    if (form < 0xc0)
        return (uint64_t)take(r) << (form % 64);
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)take(r) << (8 * i);
    return value;
}

// Values from `offset` on; their number of bytes follows from the edit. Texts grow by it.
static void edit_values(struct script_member *m, struct reader *r)
{
    size_t offset = take_number(r) % SCRIPT_VALUES, count = take(r);
    for (size_t i = 0; i < count && offset + i < SCRIPT_VALUES; i++) {
        m->values[offset + i] = take(r);
        if (m->bytes <= offset + i)
            m->bytes = offset + i + 1;
    }
}

static void edit_member(struct script_member *m, uint8_t what, struct reader *r)
{
    uint8_t which;
    switch (what % EDITS) {
    case EDIT_TYPE:
        m->type = (enum script_type)(take(r) % SCRIPT_TYPES);
        break;
    case EDIT_RANK:
        m->rank = take(r) % (SCRIPT_RANK + 1);
        break;
    case EDIT_DIMENSION:
        which = take(r) % SCRIPT_RANK;
        m->dims[which] = take_number(r);
        break;
    case EDIT_LAYOUT:
        m->layout = (enum script_layout)(take(r) % LAYOUTS);
        break;
    case EDIT_LINK:
        m->link = (enum script_link)(take(r) % LINKS);
        m->link_to = take(r);
        break;
    case EDIT_VALUES:
        edit_values(m, r);
        break;
    case EDIT_CUT:
        m->bytes = take_number(r) % (m->bytes + 1);
        break;
    default:
        break;
    }
}

static void edit_block(struct script_block *b, uint8_t what, struct reader *r)
{
    switch (what % 6) {
    case 0:
        b->version = (uint32_t)take_number(r);
        break;
    case 1:
        b->file_bytes = take_number(r);
        break;
    case 2:
        b->checksum = take_number(r);
        break;
    case 3:
        b->offset = take_number(r);
        break;
    case 4:
        b->length = take_number(r);
        break;
    default:
        b->kind = take(r);
        break;
    }
}

void script_apply(struct script_file *f, const uint8_t *data, size_t bytes)
{
    struct reader r = {data, bytes};
    uint8_t flags = take(&r);
    f->latest = (flags & 1) != 0;
    f->refit = (flags & 2) == 0;
    f->other = (flags & 4) != 0;
    while (r.left > 0) {
        uint8_t target = take(&r), what = take(&r);
        int members = f->array_count + f->attribute_count;
        int at = target % (members + 1);
        if (at < f->array_count)
            edit_member(&f->arrays[at], what, &r);
        else if (at < members)
            edit_member(&f->attributes[at - f->array_count], what, &r);
        else
            edit_block(&f->block, what, &r);
    }
}
