// Runs a fuzz target over files: `fuzz_recipe FILE|FOLDER…`, without clang and libFuzzer. Ends by
// a signal where the target does, after naming the file.

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/fuzz/fuzz.h"

enum { FILE_LIMIT = 1 << 24 };

static int replay_file(const char *path)
{
    char *bytes;
    size_t count;
    if (file_read(path, FILE_LIMIT, &bytes, &count) != RETORT_OK) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(EXIT_FAILURE);
    }
    printf("%s\n", path);
    fflush(stdout);
    // Of just its size, so that a sanitizer sees a read past the end.
    uint8_t *input = malloc(count ? count : 1);
    CHECK(input);
    memcpy(input, bytes, count);
    free(bytes);
    CHECK(LLVMFuzzerTestOneInput(input, count) == 0);
    free(input);
    return 1;
}

static int replay(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0 && errno == ENOENT)
        return 0; // nothing was found yet
    if (!S_ISDIR(status.st_mode))
        return replay_file(path);
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort), files = 0;
    CHECK(count >= 0);
    for (int i = 0; i < count; i++) {
        char inner[PATH_CAPACITY];
        if (entries[i]->d_name[0] != '.' && path_join(inner, path, entries[i]->d_name) == RETORT_OK)
            files += replay(inner);
        free(entries[i]);
    }
    free(entries);
    return files;
}

int main(int argc, char **argv)
{
    int files = 0;
#if !defined(__SANITIZE_ADDRESS__) // which needs all addresses
    const rlim_t limit = (rlim_t)2 << 30;
    setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit});
#endif
    for (int i = 1; i < argc; i++)
        files += replay(argv[i]);
    printf("%d files\n", files);
    return files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
