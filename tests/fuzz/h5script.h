#pragma once
// HDF5 files of ours that are wrong in ways a checksum does not see.
//
// A target describes the plain file of its kind as tables; a script, the fuzz input, edits them:
// missing members, other types, shapes, layouts and values, links in place of arrays, members of
// the user block. The file is then written by the HDF5 library and gets a user block that fits it,
// so that our readers come to what they must refuse themselves. Bytes of the library's own
// structures are never edited: that it falls over those is known, and what the checksum is for.
// the script's format is below.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SCRIPT_RANK = 8, SCRIPT_VALUES = 4096, SCRIPT_MEMBERS = 12 };

enum script_type {
    SCRIPT_U8,
    SCRIPT_I32,
    SCRIPT_U64,
    SCRIPT_I64,
    SCRIPT_F16,
    SCRIPT_F32,
    SCRIPT_F64,
    SCRIPT_TEXT,     // of variable length
    SCRIPT_FIXED,    // a string of 5 bytes
    SCRIPT_I32_BIG,  // big-endian
    SCRIPT_WIDE,     // a string of 70,000 bytes
    SCRIPT_COMPOUND, // {i32, f64}
    SCRIPT_LIST,     // of i32, of variable length
    SCRIPT_OPAQUE,   // 16 bytes
    SCRIPT_MATRIX,   // 3 x 3 of f32, as a type
    SCRIPT_REFERENCE,
    SCRIPT_TYPES
};

enum script_layout {
    LAYOUT_CONTIGUOUS,
    LAYOUT_COMPACT,
    LAYOUT_CHUNKED,
    LAYOUT_UNALLOCATED,
    LAYOUT_EXTERNAL, // values in another file
    LAYOUTS
};

enum script_link {
    LINK_NONE,     // the member itself
    LINK_MISSING,  // nothing
    LINK_SOFT,     // to another member
    LINK_CYCLE,    // a group with links to itself
    LINK_EXTERNAL, // to another file
    LINK_GROUP,    // an empty group
    LINKS
};

// A script is a byte of flags (1: the library's newest structures, 2: no refit, 4: the other
// reader), then edits: a byte for the member (arrays, then attributes, then the user block), one of
// these, and what it needs. A number is a shift below 0xc0 and a byte, or 0xc0 and eight bytes.
enum script_edit {
    EDIT_TYPE,      // a type
    EDIT_RANK,      // a rank
    EDIT_DIMENSION, // which, and a number
    EDIT_LAYOUT,    // a layout
    EDIT_LINK,      // a link, and an array that it goes to
    EDIT_VALUES,    // an offset as a number, a count, so many bytes
    EDIT_CUT,       // a number of bytes that stay
    EDITS
};

struct script_member {
    const char *name; // "/train/images", or an attribute's
    enum script_type type;
    int rank; // 0: one value
    uint64_t dims[SCRIPT_RANK];
    enum script_layout layout;
    enum script_link link;
    uint8_t link_to;               // of LINK_SOFT: position of the array
    bool region;                   // a sample region
    size_t bytes;                  // of values
    uint8_t values[SCRIPT_VALUES]; // repeated where the shape has more; of texts, the bytes
};

struct script_block { // edits of the user block, added to what fits
    uint32_t version;
    uint64_t file_bytes, checksum;
    uint64_t offset, length; // of the first region
    uint8_t kind;            // position in the kinds; 0: its own
};

struct script_file {
    const char *kind;
    struct script_member arrays[SCRIPT_MEMBERS], attributes[SCRIPT_MEMBERS];
    int array_count, attribute_count;
    struct script_block block;
    bool latest; // the library's newest structures
    bool other;  // the target has its other reader read
    bool refit; // what follows from the content (fingerprints, …) is made to fit it by the target
};

// Adds a member with values of `bytes` bytes; returns it. `dims` ends with a 0.
struct script_member *script_array(struct script_file *f, const char *name, enum script_type type,
                                   const uint64_t *dims, const void *values, size_t bytes);
struct script_member *script_text(struct script_file *f, const char *name, const char *text);
struct script_member *script_numbers(struct script_file *f, const char *name, enum script_type type,
                                     int count, const void *values, size_t bytes);

// Applies the edits of a fuzz input.
void script_apply(struct script_file *f, const uint8_t *data, size_t bytes);
// The first `bytes` bytes of a member's values as they are written; the caller's to free().
uint8_t *script_values(const struct script_member *m, size_t bytes);
// Writes the file; its path, until the next call.
const char *script_write(const struct script_file *f);
