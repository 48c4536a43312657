#pragma once
// The user block in front of every HDF5 file of ours, and the checksum it carries.
//
// Layout (512 bytes, little-endian), in data/h5file.h. It can be checked without the HDF5 library,
// which does not take kindly to damaged files. No function here prints a message.

#include <stdbool.h>
#include <stdint.h>

enum { USERBLOCK_BYTES = 512, USERBLOCK_REGIONS = 8, USERBLOCK_KIND_BYTES = 16 };

struct userblock_region {
    uint64_t offset, length; // bytes, from the start of the file
};

struct userblock {
    char kind[USERBLOCK_KIND_BYTES + 1];
    uint32_t version;
    int region_count;
    uint64_t file_bytes;
    uint64_t checksum; // XXH3-64 of the bytes after the user block that lie in no region
    struct userblock_region regions[USERBLOCK_REGIONS]; // in the order of their offsets
};

enum userblock_state {
    USERBLOCK_WHOLE,
    USERBLOCK_FOREIGN, // does not start with our magic
    USERBLOCK_DAMAGED, // its own checksum or a region makes no sense
};

void userblock_encode(const struct userblock *u, uint8_t out[USERBLOCK_BYTES]);
enum userblock_state userblock_decode(struct userblock *u, const uint8_t in[USERBLOCK_BYTES]);

// Sorts the regions by offset; false when two overlap, or one leaves [512, file_bytes).
bool userblock_order_regions(struct userblock *u);

// Streams over the file outside the user block and the regions. Returns 0, or an errno (EIO when
// the file ends early).
int userblock_checksum(const struct userblock *u, int fd, uint64_t *out);
