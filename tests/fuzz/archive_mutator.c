// Mutates an archive and then mostly makes the checksums of a tar's headers fit.

#include <stdio.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { BLOCK = 512, AT_SUM = 148, SUM_BYTES = 8, AT_MAGIC = 257 };

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed)
{
    bytes = LLVMFuzzerMutate(data, bytes, capacity);
    for (size_t at = 0; seed % 8 != 0 && at + BLOCK <= bytes; at += BLOCK) {
        if (memcmp(data + at + AT_MAGIC, "ustar", 5) != 0)
            continue;
        char text[SUM_BYTES + 1];
        unsigned sum = 0;
        memset(data + at + AT_SUM, ' ', SUM_BYTES);
        for (int i = 0; i < BLOCK; i++)
            sum += data[at + (size_t)i];
        (void)snprintf(text, sizeof text, "%06o", sum);
        memcpy(data + at + AT_SUM, text, SUM_BYTES - 1);
    }
    return bytes;
}
