#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>
#include <unistd.h>

#include "base/log.h"

int scratch_setup(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    const char *root = getenv("TMPDIR");
    snprintf(s->folder, sizeof s->folder, "%.3000s/retort-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(s->folder))
        return -1;
    snprintf(s->log, sizeof s->log, "%.3100s.log", s->folder);
    *state = s;
    return log_open(s->log);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

int scratch_teardown(void **state)
{
    struct scratch *s = *state;
    log_close();
    remove(s->log);
    nftw(s->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

const char *scratch_path(const struct scratch *s, const char *name)
{
    static char buffers[8][PATH_CAPACITY];
    static int turn;
    char *out = buffers[turn++ % 8];
    assert_int_equal(path_join(out, s->folder, name), 0);
    return out;
}

int scratch_said(const struct scratch *s, const char *const *words)
{
    size_t bytes;
    char *text = (char *)scratch_load(s->log, &bytes);
    int all = 1;
    for (; *words; words++)
        if (!strstr(text, *words)) {
            print_message("no \"%s\" in: %s\n", *words, text);
            all = 0;
        }
    free(text);
    assert_int_equal(truncate(s->log, 0), 0);
    return all;
}

int scratch_entries(const struct scratch *s)
{
    DIR *folder = opendir(s->folder);
    int count = 0;
    for (struct dirent *d; (d = readdir(folder)) != NULL;)
        count += d->d_name[0] != '.';
    closedir(folder);
    return count;
}

uint8_t *scratch_load(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *out = calloc(1, *bytes + 1);
    assert_int_equal(fread(out, 1, *bytes, file), *bytes);
    fclose(file);
    return out;
}

void scratch_store(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}
