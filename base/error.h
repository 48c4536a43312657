#pragma once
// Error codes, and the one line that goes with each.
//
// Every function that can fail returns 0 or a code of this list; the message is printed once, where
// the failure happened, and the code travels up to main(), where it is the exit code. A message
// names what failed, where, why, and what to do about it.

#include <stdlib.h>

enum retort_code {
    RETORT_OK = 0,
    RETORT_FAILED = 1,   // a library or the system failed us, or a bug of ours
    RETORT_USAGE = 2,    // wrong usage or recipe
    RETORT_INPUT = 3,    // bad or missing input file
    RETORT_RANK = 4,     // a rank failed
    RETORT_WRITE = 5,    // cannot write: full disk, no permission
    RETORT_BUSY = 6,     // the run folder is in use by a living run
    RETORT_MEMORY = 7,   // out of memory
    RETORT_NUMERIC = 8,  // a loss or a weight is not finite
    RETORT_STOPPED = 75, // stopped on request after a checkpoint (requeue me)
};

// Prints "[rank 3/16 node7] error: data/shard.c: <message>" on one line and returns `code`.
// Outside a rank the bracket is left out. Thread-safe.
int error_report(int code, const char *source_file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// return FAIL(RETORT_INPUT, "cannot open %s: %s; run \"retort pack\" first", path, why);
#ifdef __clang_analyzer__ // cannot see that the code comes back
#define FAIL(code, ...) (error_report((code), __FILE__, __VA_ARGS__), (code))
#else
#define FAIL(code, ...) error_report((code), __FILE__, __VA_ARGS__)
#endif

// For functions with `int rc` and a `fail:` label, where whatever failed has printed its message.
#define TRY(call)                                                                                  \
    do {                                                                                           \
        rc = (call);                                                                               \
        if (rc != RETORT_OK)                                                                       \
            goto fail;                                                                             \
    } while (0)

// The same with the message written here: TRY_ELSE(fd >= 0, RETORT_INPUT, "cannot open %s", path).
#define TRY_ELSE(condition, code, ...)                                                             \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            rc = FAIL((code), __VA_ARGS__);                                                        \
            goto fail;                                                                             \
        }                                                                                          \
    } while (0)

// A broken promise of our own code: always on; prints file, line and condition, and aborts.
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, #condition);                                          \
    } while (0)
_Noreturn void check_failed(const char *source_file, int line, const char *condition);

// CHECK for debug builds, where the test is too dear for a release.
#ifdef NDEBUG
#define ASSERT(condition) ((void)0)
#else
#define ASSERT(condition) CHECK(condition)
#endif

// "usage or recipe", "bad input file", …: what `retort --help` says of a code.
const char *retort_code_text(int code);
