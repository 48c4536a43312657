#include "data/userblock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static const char MAGIC[8] = {'R', 'E', 'T', 'O', 'R', 'T', '\r', '\n'};

// Offsets of the fields; the block's own checksum covers all that is before it.
enum {
    AT_KIND = 8,
    AT_VERSION = 24,
    AT_REGION_COUNT = 28,
    AT_FILE_BYTES = 32,
    AT_CHECKSUM = 40,
    AT_REGIONS = 48,
    AT_OWN_CHECKSUM = USERBLOCK_BYTES - 8,
};

static void store(uint8_t *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

void userblock_encode(const struct userblock *u, uint8_t out[USERBLOCK_BYTES])
{
    memset(out, 0, USERBLOCK_BYTES);
    memcpy(out, MAGIC, sizeof MAGIC);
    memcpy(out + AT_KIND, u->kind, strnlen(u->kind, USERBLOCK_KIND_BYTES));
    store(out + AT_VERSION, u->version, 4);
    store(out + AT_REGION_COUNT, (uint64_t)u->region_count, 4);
    store(out + AT_FILE_BYTES, u->file_bytes, 8);
    store(out + AT_CHECKSUM, u->checksum, 8);
    for (int i = 0; i < u->region_count; i++) {
        store(out + AT_REGIONS + 16 * i, u->regions[i].offset, 8);
        store(out + AT_REGIONS + 16 * i + 8, u->regions[i].length, 8);
    }
    store(out + AT_OWN_CHECKSUM, XXH3_64bits(out, AT_OWN_CHECKSUM), 8);
}

enum userblock_state userblock_decode(struct userblock *u, const uint8_t in[USERBLOCK_BYTES])
{
    memset(u, 0, sizeof *u);
    if (memcmp(in, MAGIC, sizeof MAGIC) != 0)
        return USERBLOCK_FOREIGN;
    uint64_t region_count = load(in + AT_REGION_COUNT, 4);
    if (load(in + AT_OWN_CHECKSUM, 8) != XXH3_64bits(in, AT_OWN_CHECKSUM) ||
        region_count > USERBLOCK_REGIONS)
        return USERBLOCK_DAMAGED;
    // What follows its NUL says nothing.
    memcpy(u->kind, in + AT_KIND, strnlen((const char *)in + AT_KIND, USERBLOCK_KIND_BYTES));
    u->version = (uint32_t)load(in + AT_VERSION, 4);
    u->region_count = (int)region_count;
    u->file_bytes = load(in + AT_FILE_BYTES, 8);
    u->checksum = load(in + AT_CHECKSUM, 8);
    for (int i = 0; i < u->region_count; i++) {
        u->regions[i].offset = load(in + AT_REGIONS + 16 * i, 8);
        u->regions[i].length = load(in + AT_REGIONS + 16 * i + 8, 8);
    }
    return userblock_order_regions(u) ? USERBLOCK_WHOLE : USERBLOCK_DAMAGED;
}

static int region_compare(const void *a, const void *b)
{
    const struct userblock_region *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

bool userblock_order_regions(struct userblock *u)
{
    qsort(u->regions, (size_t)u->region_count, sizeof u->regions[0], region_compare);
    uint64_t at = USERBLOCK_BYTES;
    for (int i = 0; i < u->region_count; i++) {
        const struct userblock_region *r = &u->regions[i];
        if (r->offset < at || r->offset > u->file_bytes || r->length > u->file_bytes - r->offset)
            return false;
        at = r->offset + r->length;
    }
    return at <= u->file_bytes;
}

// Adds bytes [from, to) of the file to the checksum.
static int checksum_range(XXH3_state_t *state, int fd, uint64_t from, uint64_t to, uint8_t *buffer,
                          size_t buffer_bytes)
{
    while (from < to) {
        size_t want = to - from < buffer_bytes ? (size_t)(to - from) : buffer_bytes;
        ssize_t got = pread(fd, buffer, want, (off_t)from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EIO;
        XXH3_64bits_update(state, buffer, (size_t)got);
        from += (uint64_t)got;
    }
    return 0;
}

int userblock_checksum(const struct userblock *u, int fd, uint64_t *out)
{
    const size_t most = (size_t)1 << 20;
    const size_t buffer_bytes = u->file_bytes < most ? (size_t)u->file_bytes + 1 : most;
    uint8_t *buffer = malloc(buffer_bytes);
    XXH3_state_t *state = XXH3_createState();
    int rc = buffer && state ? 0 : ENOMEM;
    if (rc == 0) {
        XXH3_64bits_reset(state);
        uint64_t at = USERBLOCK_BYTES;
        for (int i = 0; rc == 0 && i < u->region_count; i++) {
            rc = checksum_range(state, fd, at, u->regions[i].offset, buffer, buffer_bytes);
            at = u->regions[i].offset + u->regions[i].length;
        }
        if (rc == 0)
            rc = checksum_range(state, fd, at, u->file_bytes, buffer, buffer_bytes);
        *out = XXH3_64bits_digest(state);
    }
    XXH3_freeState(state);
    free(buffer);
    return rc;
}
