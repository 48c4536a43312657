#include "tests/base/capture.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

static struct {
    FILE *file;
    int descriptor, saved;
    char text[1 << 16];
    char folder[256];
} capture;

void capture_begin(int descriptor)
{
    fflush(NULL);
    capture.file = tmpfile();
    CHECK(capture.file);
    capture.descriptor = descriptor;
    capture.saved = dup(descriptor);
    CHECK(capture.saved >= 0 && dup2(fileno(capture.file), descriptor) >= 0);
}

const char *capture_end(void)
{
    fflush(NULL);
    CHECK(dup2(capture.saved, capture.descriptor) >= 0);
    close(capture.saved);
    rewind(capture.file);
    size_t bytes = fread(capture.text, 1, sizeof capture.text - 1, capture.file);
    capture.text[bytes] = '\0';
    fclose(capture.file);
    return capture.text;
}

const char *scratch_create(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(capture.folder, sizeof capture.folder, "%s/retort-test-XXXXXX",
             parent ? parent : "/tmp");
    CHECK(mkdtemp(capture.folder));
    return capture.folder;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

void scratch_remove(void)
{
    CHECK(nftw(capture.folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

int folder_entries(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;
    CHECK(folder);
    for (const struct dirent *entry; (entry = readdir(folder));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(folder);
    return count;
}
