// Mutates a picture and then mostly makes the checksums of a PNG's chunks fit, behind which most of
// its reader lies. The first byte is not the file's (tests/fuzz/fuzz_picture.c).

#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { SIGNATURE = 8, CHUNK = 12 }; // length, name and checksum of a chunk

static uint32_t load(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

// CRC-32 of PNG (ISO 3309), bit by bit.
static uint32_t crc(const uint8_t *data, size_t bytes)
{
    uint32_t value = 0xffffffffU;
    for (size_t i = 0; i < bytes; i++) {
        value ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320U : 0);
    }
    return ~value;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed)
{
    bytes = LLVMFuzzerMutate(data, bytes, capacity);
    if (seed % 8 == 0 || bytes < 1 + SIGNATURE || memcmp(data + 1, "\x89PNG", 4) != 0)
        return bytes;
    for (size_t at = 1 + SIGNATURE; bytes - at >= CHUNK;) {
        size_t length = load(data + at);
        if (length > bytes - at - CHUNK)
            break;
        uint32_t value = crc(data + at + 4, length + 4);
        for (int i = 0; i < 4; i++)
            data[at + 8 + length + (size_t)i] = (uint8_t)(value >> (24 - 8 * i));
        at += CHUNK + length;
    }
    return bytes;
}
