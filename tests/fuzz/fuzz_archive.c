// An archive: any bytes are refused with one line, or are an image folder.

#include "tests/fuzz/folder_check.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    folder_check(fuzz_file(data, bytes));
    return 0;
}
