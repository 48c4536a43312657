#pragma once
// Files of Hugging Face's safetensors format, what PyTorch users exchange weights in
// (https://github.com/huggingface/safetensors#format): u64 length of a JSON header, the header,
// then the raw little-endian values of all tensors, one after the other without holes.
//
// The reader believes nothing of a file: a tensor it hands out has a known type, its bytes fit its
// shape and lie in the file, no byte belongs to two tensors or to none, no name stands twice.
// Messages name the file. Not collective.

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { SAFETENSORS_RANK = 8 };
// The format's own limit of the header, and ours of a file.
#define SAFETENSORS_HEADER_LIMIT ((size_t)100000000)
#define SAFETENSORS_FILE_LIMIT ((size_t)1 << 32)

enum safetensors_type {
    SAFETENSORS_F64,
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_F8_E4M3,
    SAFETENSORS_F8_E5M2,
    SAFETENSORS_I64,
    SAFETENSORS_I32,
    SAFETENSORS_I16,
    SAFETENSORS_I8,
    SAFETENSORS_U64,
    SAFETENSORS_U32,
    SAFETENSORS_U16,
    SAFETENSORS_U8,
    SAFETENSORS_BOOL,
    SAFETENSORS_TYPES
};
// "F32"; bytes of an element.
const char *safetensors_type_name(enum safetensors_type type);
size_t safetensors_type_bytes(enum safetensors_type type);

struct safetensor {
    const char *name; // UTF-8, borrowed
    enum safetensors_type type;
    int rank;
    int64_t shape[SAFETENSORS_RANK];
    const void *data; // borrowed, little-endian, of any alignment
    size_t bytes;
};

struct safetensors {
    json_t *header;             // owned; names are its
    const json_t *metadata;     // borrowed: {text: text}, or NULL when there is none
    struct safetensor *tensors; // owned, in the order of their bytes
    size_t count;
    char *file; // owned; NULL when the caller keeps the bytes
};

// Takes bytes[byte_count] apart, which stay the caller's and are pointed into; `name` is for
// messages. RETORT_INPUT with one line when they are no whole safetensors file.
int safetensors_parse(struct safetensors *out, const void *bytes, size_t byte_count,
                      const char *name);
// The same of a file.
int safetensors_read(struct safetensors *out, const char *path);
void safetensors_free(struct safetensors *s);
// The tensor of a name, or NULL; the metadata's text of a key, or NULL.
const struct safetensor *safetensors_find(const struct safetensors *s, const char *name);
const char *safetensors_text(const struct safetensors *s, const char *key);

// Writes the tensors in the order given (wider types first keeps them aligned), whole or not at
// all. `metadata` ({text: text}, borrowed) may be NULL. The same content gives the same bytes.
int safetensors_write(const char *path, const json_t *metadata, const struct safetensor *tensors,
                      size_t count);
