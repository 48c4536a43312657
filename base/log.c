#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

enum { LINE_CAPACITY = 16384, HOST_CAPACITY = 256 };
static const double REDRAW_EVERY_S = 0.1;
static const char ERASE_LINE[] = "\r\x1b[K";

static struct {
    pthread_mutex_t lock;
    int rank, size;
    char host[HOST_CAPACITY];
    int file;   // descriptor of the log file, or -1
    bool drawn; // an unfinished progress line stands on the terminal
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .file = -1};

void log_set_rank(int rank, int size, const char *host)
{
    pthread_mutex_lock(&logger.lock);
    logger.rank = rank;
    logger.size = size;
    snprintf(logger.host, sizeof logger.host, "%s", host);
    pthread_mutex_unlock(&logger.lock);
}

int log_open(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file < 0)
        return FAIL(RETORT_WRITE, "cannot write the log %s: %s", path, strerror(errno));
    log_close();
    pthread_mutex_lock(&logger.lock);
    logger.file = file;
    pthread_mutex_unlock(&logger.lock);
    return RETORT_OK;
}

void log_close(void)
{
    pthread_mutex_lock(&logger.lock);
    if (logger.file >= 0)
        close(logger.file);
    logger.file = -1;
    pthread_mutex_unlock(&logger.lock);
}

// Prints `line` (its newline included) to `descriptor` and to the log file, each in one write(2),
// so that the lines of several ranks do not mix. Call under the lock. A logger that cannot write
// has nowhere to say so: it goes on.
static void emit(int descriptor, const char *line, size_t bytes)
{
    fflush(stdout);
    if (logger.drawn)
        (void)write_all(STDOUT_FILENO, ERASE_LINE, sizeof ERASE_LINE - 1);
    logger.drawn = false;
    (void)write_all(descriptor, line, bytes);
    if (logger.file >= 0)
        (void)write_all(logger.file, line, bytes);
}

// Adds the newline, cutting what does not fit; returns the length with it.
static size_t end_line(char *line, size_t capacity)
{
    size_t length = strlen(line);
    if (length > capacity - 2)
        length = capacity - 2;
    line[length] = '\n';
    line[length + 1] = '\0';
    return length + 1;
}

// "[rank 3/16 node7] ", or nothing outside a rank. Call under the lock.
static size_t put_rank(char *line, size_t capacity)
{
    line[0] = '\0';
    if (logger.size == 0)
        return 0;
    int used = snprintf(line, capacity, "[rank %d/%d %s] ", logger.rank, logger.size, logger.host);
    return used > 0 ? (size_t)used : 0;
}

void log_info(const char *format, ...)
{
    char line[LINE_CAPACITY];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    size_t bytes = end_line(line, sizeof line);
    pthread_mutex_lock(&logger.lock);
    if (logger.rank == 0)
        emit(STDOUT_FILENO, line, bytes);
    pthread_mutex_unlock(&logger.lock);
}

void log_warn(const char *format, ...)
{
    char text[LINE_CAPACITY];
    int used = snprintf(text, sizeof text, "warning: ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    log_error_line(text);
}

void log_error_line(const char *line)
{
    char out[LINE_CAPACITY];
    pthread_mutex_lock(&logger.lock);
    size_t used = put_rank(out, sizeof out);
    snprintf(out + used, sizeof out - used, "%s", line);
    size_t bytes = end_line(out, sizeof out);
    emit(STDERR_FILENO, out, bytes);
    pthread_mutex_unlock(&logger.lock);
}

// Under mpirun a rank's stdout is mpirun's; the launcher says what its own is.
static bool on_terminal(void)
{
    const char *said = getenv("RETORT_TERMINAL");
    return said ? said[0] == '1' : isatty(STDOUT_FILENO) != 0;
}

void progress_init(struct progress *p, const char *what, int64_t total)
{
    double now = clock_seconds();
    *p = (struct progress){
        .what = what, .start_s = now, .last_s = now, .plain_every_s = 10, .total = total};
}

// "train  450/1000 (45 %), 12.0 s left, loss 3.21"; the time taken in place of the time left at the
// end.
static void progress_text(const struct progress *p, int64_t done, const char *detail, double now,
                          char *out, size_t out_bytes)
{
    char duration[32] = "";
    double spent = now - p->start_s;
    if (done >= p->total)
        format_duration(spent, duration, sizeof duration);
    else if (done > 0)
        format_duration(spent * (double)(p->total - done) / (double)done, duration,
                        sizeof duration);
    double percent = p->total > 0 ? 100.0 * (double)done / (double)p->total : 100.0;
    snprintf(out, out_bytes, "%s %lld/%lld (%.0f %%)%s%s%s%s%s", p->what, (long long)done,
             (long long)p->total, floor(percent), duration[0] ? ", " : "", duration,
             duration[0] && done < p->total ? " left" : "", detail && detail[0] ? ", " : "",
             detail ? detail : "");
}

// Draws over the line that stands on the terminal.
static void redraw(const char *text)
{
    char line[LINE_CAPACITY];
    int bytes = snprintf(line, sizeof line, "%s%s", ERASE_LINE, text);
    if (bytes < 0)
        return;
    pthread_mutex_lock(&logger.lock);
    fflush(stdout);
    (void)write_all(STDOUT_FILENO, line, strlen(line));
    logger.drawn = true;
    pthread_mutex_unlock(&logger.lock);
}

void progress_update(struct progress *p, int64_t done, const char *detail)
{
    if (logger.rank != 0)
        return;
    double now = clock_seconds();
    bool terminal = on_terminal();
    bool last = done >= p->total;
    if (!last && now - p->last_s < (terminal ? REDRAW_EVERY_S : p->plain_every_s))
        return;
    p->last_s = now;
    char text[LINE_CAPACITY / 2];
    progress_text(p, done, detail, now, text, sizeof text);
    p->drawn = terminal && !last;
    if (p->drawn)
        redraw(text);
    else
        log_info("%s", text);
}

void progress_end(struct progress *p)
{
    if (!p->drawn)
        return;
    p->drawn = false;
    pthread_mutex_lock(&logger.lock);
    if (logger.drawn)
        (void)write_all(STDOUT_FILENO, "\n", 1);
    logger.drawn = false;
    pthread_mutex_unlock(&logger.lock);
}

double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void format_duration(double seconds, char *out, size_t out_bytes)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e15) {
        snprintf(out, out_bytes, "unknown time");
    } else if (seconds < 59.95) {
        snprintf(out, out_bytes, "%.1f s", seconds);
    } else if (seconds < 3599.5) {
        long long whole = llround(seconds);
        snprintf(out, out_bytes, "%lld min %02lld s", whole / 60, whole % 60);
    } else {
        long long minutes = llround(seconds / 60);
        snprintf(out, out_bytes, "%lld h %02lld min", minutes / 60, minutes % 60);
    }
}

void format_bytes(double bytes, char *out, size_t out_bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;
    // 999.5 and more would print as 1e+03.
    while (bytes >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, out_bytes, unit == 0 ? "%.0f %s" : "%.3g %s", bytes, units[unit]);
}
