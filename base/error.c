#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

// A path or two and a sentence; what is longer is cut.
enum { MESSAGE_CAPACITY = 12288 };

// One message is one line, whatever a file name or a library's text holds.
static void flatten(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = ' ';
}

int error_report(int code, const char *source_file, const char *format, ...)
{
    char line[MESSAGE_CAPACITY];
    int used = snprintf(line, sizeof line, "error: %s: ", source_file);
    if (used > 0 && (size_t)used < sizeof line) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
        va_end(arguments);
    }
    flatten(line);
    log_error_line(line);
    return code;
}

_Noreturn void check_failed(const char *source_file, int line, const char *condition)
{
    error_report(RETORT_FAILED, source_file,
                 "line %d: \"%s\" does not hold; this is a bug of retort", line, condition);
    abort();
}

const char *retort_code_text(int code)
{
    switch (code) {
    case RETORT_OK:
        return "done";
    case RETORT_FAILED:
        return "a library or the system failed, or a bug of retort";
    case RETORT_USAGE:
        return "wrong usage or recipe";
    case RETORT_INPUT:
        return "bad or missing input file";
    case RETORT_RANK:
        return "a rank failed";
    case RETORT_WRITE:
        return "cannot write (full disk, no permission)";
    case RETORT_BUSY:
        return "the run folder is in use by a living run";
    case RETORT_MEMORY:
        return "out of memory";
    case RETORT_NUMERIC:
        return "a loss or a weight is not finite";
    case RETORT_STOPPED:
        return "stopped on request after a checkpoint (run again to go on)";
    default:
        return "unknown code";
    }
}
