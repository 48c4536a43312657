#pragma once
// What the fuzz targets share: inputs as files, and what every reader owes its caller.
//
// A target is one LLVMFuzzerTestOneInput. Built by clang with -fsanitize=fuzzer it is driven by
// libFuzzer; in every other build replay.c runs it over the seeds and over what was once found.
// The linker wraps error_report (--wrap), so that messages are counted.

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
// libFuzzer's own mutation of data[bytes], for targets that bring a mutator.
size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t capacity);

// A reader's promise: RETORT_OK without a message, or `refusal` with just one. A bad input is never
// an out of memory: what it asks for is refused before it is allocated.
void fuzz_expect(int rc, int refusal);
// The same for a reader that was told to print nothing.
void fuzz_expect_quiet(int rc, int refusal);

// The bytes as a file of TMPDIR, or /dev/shm, until the next call. Its name is always the same.
const char *fuzz_file(const uint8_t *data, size_t bytes);
