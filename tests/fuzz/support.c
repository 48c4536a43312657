#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"

static int messages; // since the last check

int __wrap_error_report(int code, const char *source_file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

int __wrap_error_report(int code, const char *source_file, const char *format, ...)
{
    char line[12288];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(code != RETORT_OK && source_file[0] && length > 0);
    fprintf(stderr, "%s: %s\n", source_file, line);
    messages++;
    return code;
}

void fuzz_expect(int rc, int refusal)
{
    CHECK(rc == RETORT_OK || rc == refusal);
    CHECK(messages == (rc == RETORT_OK ? 0 : 1));
    messages = 0;
}

void fuzz_expect_quiet(int rc, int refusal)
{
    CHECK(rc == RETORT_OK || rc == refusal);
    CHECK(messages == 0);
}

static char path[256];

static void remove_file(void)
{
    (void)unlink(path);
}

const char *fuzz_file(const uint8_t *data, size_t bytes)
{
    static int fd = -1;
    if (fd < 0) {
        const char *folder = getenv("TMPDIR");
        snprintf(path, sizeof path, "%.200s/retort-fuzz-%d", folder ? folder : "/dev/shm",
                 (int)getpid());
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && atexit(remove_file) == 0);
    }
    CHECK(ftruncate(fd, 0) == 0);
    for (size_t at = 0; at < bytes;) {
        ssize_t put = pwrite(fd, data + at, bytes - at, (off_t)at);
        CHECK(put > 0);
        at += (size_t)put;
    }
    return path;
}
