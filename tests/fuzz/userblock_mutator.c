// Mutates a file and then often makes its user block's own checksum and length fit, so that what
// they guard is reached. The checksum of what follows the block is left as it is: the HDF5 library
// has faults in reading damaged files, and is kept from them by that checksum. To look for those,
// RETORT_FUZZ_LIBRARY=1 makes it fit too.

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/userblock.h"
#include "tests/fuzz/fuzz.h"

enum { AT_FILE_BYTES = 32, AT_CHECKSUM = 40, AT_OWN_CHECKSUM = USERBLOCK_BYTES - 8 };

static void store(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void fit_content(uint8_t *data, size_t bytes)
{
    struct userblock u;
    size_t at = USERBLOCK_BYTES;
    if (userblock_decode(&u, data) != USERBLOCK_WHOLE || u.file_bytes != bytes)
        return;
    XXH3_state_t *state = XXH3_createState();
    XXH3_64bits_reset(state);
    for (int i = 0; i < u.region_count; i++) {
        XXH3_64bits_update(state, data + at, u.regions[i].offset - at);
        at = u.regions[i].offset + u.regions[i].length;
    }
    XXH3_64bits_update(state, data + at, bytes - at);
    store(data + AT_CHECKSUM, XXH3_64bits_digest(state));
    XXH3_freeState(state);
    store(data + AT_OWN_CHECKSUM, XXH3_64bits(data, AT_OWN_CHECKSUM));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t capacity, unsigned seed)
{
    static int library = -1;
    if (library < 0)
        library = getenv("RETORT_FUZZ_LIBRARY") != NULL;
    // Half the time only within the block, which is small beside the file.
    if (seed % 2 && bytes >= USERBLOCK_BYTES && !library)
        LLVMFuzzerMutate(data, USERBLOCK_BYTES, USERBLOCK_BYTES);
    else
        bytes = LLVMFuzzerMutate(data, bytes, capacity);
    if (bytes < USERBLOCK_BYTES || seed / 2 % 8 == 0)
        return bytes;
    if (library || seed / 16 % 2)
        store(data + AT_FILE_BYTES, bytes);
    store(data + AT_OWN_CHECKSUM, XXH3_64bits(data, AT_OWN_CHECKSUM));
    if (library)
        fit_content(data, bytes);
    return bytes;
}
