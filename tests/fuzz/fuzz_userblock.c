// The block in front of a file and the checksum it carries: any bytes are refused with one line
// before the HDF5 library sees them. The checksum of what follows the block is never made to fit
// (tests/fuzz/userblock_mutator.c), so that only whole files pass.

#include <string.h>

#include "base/error.h"
#include "data/h5file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct userblock u, again;
    struct h5file f;
    uint8_t block[USERBLOCK_BYTES] = {0};
    memcpy(block, data, bytes < sizeof block ? bytes : sizeof block);
    if (userblock_decode(&u, block) == USERBLOCK_WHOLE) {
        userblock_encode(&u, block);
        CHECK(userblock_decode(&again, block) == USERBLOCK_WHOLE);
        CHECK(memcmp(&u, &again, sizeof u) == 0);
    }
    const char *path = fuzz_file(data, bytes);
    int rc = h5file_open(&f, path, NULL, true);
    fuzz_expect_quiet(rc, RETORT_INPUT);
    h5file_close(&f);
    CHECK(h5file_is_ours(path) == (bytes >= 8 && memcmp(data, "RETORT\r\n", 8) == 0));
    static const char *const kinds[] = {H5_KIND_DATASET, H5_KIND_LOGITS, H5_KIND_CHECKPOINT};
    for (int i = 0; i < 3; i++) {
        rc = h5file_open(&f, path, kinds[i], false);
        fuzz_expect(rc, RETORT_INPUT);
        h5file_close(&f);
    }
    return 0;
}
