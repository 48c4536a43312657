#pragma once
// The logger: plain lines on a terminal and in a file, and one progress line.
//
// The only mutable global of the program. On ranks other than 0 log_info is silent; warnings and
// errors speak on every rank, with the rank's name in front.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Names this process in every message: rank `rank` of `size` on `host` (copied).
void log_set_rank(int rank, int size, const char *host);

// Appends every line that is printed to `path` too (errors included). Returns a retort_code.
int log_open(const char *path);
void log_close(void);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Used by error_report(); prints on every rank to stderr and to the log file.
void log_error_line(const char *line);

// A progress line: redrawn in place on a terminal (at most 10 times a second), and a plain line
// every `plain_every_s` seconds where stdout is not one. `detail` may be NULL or a short text such
// as "loss 3.21". The last call (done == total) ends the line. Not for several threads at once.
struct progress {
    const char *what; // borrowed
    double start_s, last_s;
    double plain_every_s;
    int64_t total;
    bool drawn;
};
void progress_init(struct progress *p, const char *what, int64_t total);
void progress_update(struct progress *p, int64_t done, const char *detail);
void progress_end(struct progress *p);

// Seconds of a monotonic clock.
double clock_seconds(void);
// "1 h 02 min", "3 min 20 s", "4.2 s".
void format_duration(double seconds, char *out, size_t out_bytes);
// "1.23 GB", "45 MB" (powers of 1000).
void format_bytes(double bytes, char *out, size_t out_bytes);
