#include "comm/rank_state.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

// Line by line; each is LINE_BYTES long, its newline included.
enum line {
    LINE_TITLE,
    LINE_GENERATION,
    LINE_RANK,
    LINE_HOST,
    LINE_PID,
    LINE_PHASE,
    LINE_STEP,
    LINE_EXIT,
    LINE_COLLECTIVES,
    LINE_LATEST,
    LINE_CHANGED,
    LINE_ALIVE,
    LINE_LEGEND,
    LINE_RECORDS,
    LINE_GENERATION_AGAIN = LINE_RECORDS + STATE_RECORDS,
    LINE_COUNT,
};
enum { LINE_BYTES = 96, VALUE_AT = 14, STATE_BYTES = LINE_BYTES * LINE_COUNT, READ_TRIES = 100 };

static const char *const KEYS[LINE_RECORDS] = {
    "retort rank", "generation",  "rank",   "host",    "pid",   "phase",  "step",
    "exit",        "collectives", "latest", "changed", "alive", "record",
};

struct state_file {
    char *text; // [STATE_BYTES], mapped
    int descriptor;
};

double wall_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((format(printf, 3, 4))) static void put(char *text, enum line line,
                                                      const char *format, ...)
{
    char row[LINE_BYTES + 1];
    const char *key = line < LINE_RECORDS            ? KEYS[line]
                      : line < LINE_GENERATION_AGAIN ? "-"
                                                     : KEYS[LINE_GENERATION];
    int used = snprintf(row, sizeof row, "%-*s", VALUE_AT, key);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(row + used, sizeof row - (size_t)used, format, arguments);
    va_end(arguments);
    used += more > 0 ? more : 0;
    for (int i = used; i < LINE_BYTES - 1; i++)
        row[i] = ' ';
    row[LINE_BYTES - 1] = '\n';
    memcpy(text + (size_t)line * LINE_BYTES, row, LINE_BYTES);
}

static void put_record(char *text, int slot, const struct state_record *r)
{
    put(text, (enum line)(LINE_RECORDS + slot), "%lld %lld %llu %.3f %.3f %s", (long long)r->number,
        (long long)r->step, (unsigned long long)r->bytes, r->entered_s, r->left_s, r->name);
}

static void put_changing(char *text, const struct rank_state *s)
{
    put(text, LINE_PHASE, "%s", s->phase);
    put(text, LINE_STEP, "%lld", (long long)s->step);
    put(text, LINE_EXIT, "%lld", (long long)s->exit_code);
    put(text, LINE_COLLECTIVES, "%lld", (long long)s->collectives);
    put(text, LINE_LATEST, "%lld", (long long)s->latest);
    put(text, LINE_CHANGED, "%.6f", s->changed_s);
}

static void put_all(char *text, const struct rank_state *s)
{
    put(text, LINE_TITLE, "state 1");
    put(text, LINE_GENERATION, "%lld", (long long)s->generation);
    put(text, LINE_RANK, "%d of %d", s->rank, s->size);
    put(text, LINE_HOST, "%s", s->host);
    put(text, LINE_PID, "%lld", (long long)s->pid);
    put_changing(text, s);
    put(text, LINE_ALIVE, "%.6f", s->alive_s);
    put(text, LINE_LEGEND, "number, step, bytes, entered, left (0: inside), name");
    for (int i = 0; i < STATE_RECORDS; i++)
        put_record(text, i, &s->records[i]);
    put(text, LINE_GENERATION_AGAIN, "%lld", (long long)s->generation);
}

static int state_path(char *out, const char *folder, int rank)
{
    char name[32];
    snprintf(name, sizeof name, "%d.state", rank);
    return path_join(out, folder, name);
}

// The file is written once before it is mapped: a store to a page the disk has no room for would
// kill the process.
int state_file_create(struct state_file **out, const char *folder, const struct rank_state *s)
{
    int rc = RETORT_OK;
    char path[PATH_CAPACITY], text[STATE_BYTES];
    *out = NULL;
    struct state_file *f = calloc(1, sizeof *f);
    TRY_ELSE(f, RETORT_MEMORY, "no memory for a state file");
    f->descriptor = -1;
    f->text = MAP_FAILED;
    TRY(folder_create(folder));
    TRY(state_path(path, folder, s->rank));
    put_all(text, s);
    unlink(path); // a process that still maps an earlier one keeps it
    f->descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    TRY_ELSE(f->descriptor >= 0, RETORT_WRITE, "cannot create %s: %s", path, strerror(errno));
    errno = ENOSPC; // what a short write means
    TRY_ELSE(pwrite(f->descriptor, text, sizeof text, 0) == (ssize_t)sizeof text, RETORT_WRITE,
             "cannot write %s: %s", path, strerror(errno));
    f->text = mmap(NULL, sizeof text, PROT_READ | PROT_WRITE, MAP_SHARED, f->descriptor, 0);
    TRY_ELSE(f->text != MAP_FAILED, RETORT_WRITE, "cannot map %s: %s", path, strerror(errno));
    *out = f;
    return RETORT_OK;
fail:
    state_file_close(&f);
    return rc;
}

void state_file_close(struct state_file **p)
{
    struct state_file *f = *p;
    *p = NULL;
    if (!f)
        return;
    if (f->text != MAP_FAILED)
        munmap(f->text, STATE_BYTES);
    if (f->descriptor >= 0)
        close(f->descriptor);
    free(f);
}

// The last line first: a reader, which copies from the top, then meets two generations whenever it
// has seen anything of a write under way.
void state_file_write(struct state_file *f, struct rank_state *s, bool record)
{
    s->generation++;
    s->changed_s = wall_seconds();
    put(f->text, LINE_GENERATION_AGAIN, "%lld", (long long)s->generation);
    atomic_thread_fence(memory_order_seq_cst);
    put_changing(f->text, s);
    if (record) {
        int slot = (int)((s->latest - 1) % STATE_RECORDS);
        put_record(f->text, slot, &s->records[slot]);
    }
    atomic_thread_fence(memory_order_seq_cst);
    put(f->text, LINE_GENERATION, "%lld", (long long)s->generation);
}

void state_file_alive(struct state_file *f, double alive_s)
{
    put(f->text, LINE_ALIVE, "%.6f", alive_s);
    sync_file_range(f->descriptor, 0, STATE_BYTES, SYNC_FILE_RANGE_WRITE);
}

bool state_file_taken(const struct state_file *f, const char *folder, int rank)
{
    char path[PATH_CAPACITY];
    struct stat mine, there;
    if (fstat(f->descriptor, &mine) != 0 || state_path(path, folder, rank) != RETORT_OK)
        return false;
    if (stat(path, &there) != 0)
        return errno == ENOENT;
    return mine.st_ino != there.st_ino;
}

// The value of a line, without the blanks it is padded with.
static void get(char *out, size_t out_bytes, const char *text, enum line line)
{
    const char *value = text + (size_t)line * LINE_BYTES + VALUE_AT;
    size_t length = LINE_BYTES - 1 - VALUE_AT;
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\n'))
        length--;
    snprintf(out, out_bytes, "%.*s", (int)length, value);
}

static int64_t get_integer(const char *text, enum line line)
{
    char value[LINE_BYTES];
    get(value, sizeof value, text, line);
    return strtoll(value, NULL, 10);
}

static double get_seconds(const char *text, enum line line)
{
    char value[LINE_BYTES];
    get(value, sizeof value, text, line);
    return strtod(value, NULL);
}

static void get_record(struct state_record *r, const char *text, enum line line)
{
    char value[LINE_BYTES], *rest = value;
    get(value, sizeof value, text, line);
    r->number = strtoll(rest, &rest, 10);
    r->step = strtoll(rest, &rest, 10);
    r->bytes = strtoull(rest, &rest, 10);
    r->entered_s = strtod(rest, &rest);
    r->left_s = strtod(rest, &rest);
    snprintf(r->name, sizeof r->name, "%.*s", STATE_NAME - 1, rest + (*rest == ' '));
}

static void get_all(struct rank_state *s, const char *text, int rank)
{
    memset(s, 0, sizeof *s);
    s->rank = rank;
    s->generation = get_integer(text, LINE_GENERATION);
    s->pid = get_integer(text, LINE_PID);
    s->step = get_integer(text, LINE_STEP);
    s->exit_code = get_integer(text, LINE_EXIT);
    s->collectives = get_integer(text, LINE_COLLECTIVES);
    s->latest = get_integer(text, LINE_LATEST);
    s->changed_s = get_seconds(text, LINE_CHANGED);
    s->alive_s = get_seconds(text, LINE_ALIVE);
    get(s->host, sizeof s->host, text, LINE_HOST);
    get(s->phase, sizeof s->phase, text, LINE_PHASE);
    char size[LINE_BYTES];
    get(size, sizeof size, text, LINE_RANK);
    const char *of = strstr(size, " of ");
    s->size = of ? (int)strtol(of + 4, NULL, 10) : 0;
    for (int i = 0; i < STATE_RECORDS; i++)
        get_record(&s->records[i], text, (enum line)(LINE_RECORDS + i));
}

static bool read_text(char text[STATE_BYTES], const char *path)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t got = pread(descriptor, text, STATE_BYTES, 0);
    close(descriptor);
    return got == STATE_BYTES && memcmp(text, KEYS[LINE_TITLE], strlen(KEYS[LINE_TITLE])) == 0;
}

// A rank killed in the middle of a write leaves two generations: after some tries we take them.
int state_read(struct rank_state *s, const char *folder, int rank)
{
    char path[PATH_CAPACITY], text[STATE_BYTES];
    int rc = state_path(path, folder, rank);
    if (rc != RETORT_OK)
        return rc;
    bool whole = false;
    for (int i = 0; i < READ_TRIES && !whole; i++) {
        if (i > 0)
            usleep(1000);
        if (!read_text(text, path))
            return RETORT_INPUT;
        whole = get_integer(text, LINE_GENERATION) == get_integer(text, LINE_GENERATION_AGAIN);
    }
    get_all(s, text, rank);
    s->whole = whole;
    return RETORT_OK;
}

const struct state_record *state_latest(const struct rank_state *s)
{
    return s->latest > 0 ? &s->records[(s->latest - 1) % STATE_RECORDS] : NULL;
}

bool state_inside(const struct rank_state *s)
{
    const struct state_record *r = state_latest(s);
    return r && r->left_s == 0.0;
}

void record_describe(const struct state_record *r, char *out, size_t out_bytes)
{
    char amount[32];
    format_bytes((double)r->bytes, amount, sizeof amount);
    if (r->bytes > 0)
        snprintf(out, out_bytes, "%s of %s", r->name, amount);
    else
        snprintf(out, out_bytes, "%s", r->name);
}

void state_history(const struct rank_state *s, char *out, size_t out_bytes)
{
    const int64_t oldest = s->latest > STATE_RECORDS ? s->latest - STATE_RECORDS : 0;
    size_t used = 0;
    out[0] = '\0';
    for (int64_t i = s->latest - 2; i >= oldest; i--) {
        char what[64];
        record_describe(&s->records[i % STATE_RECORDS], what, sizeof what);
        if (used + strlen(what) + sizeof ", " > out_bytes)
            return;
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", used ? ", " : "", what);
    }
}

void state_place(const struct rank_state *s, char *out, size_t out_bytes)
{
    const char *phase = s->phase[0] ? s->phase : "start";
    if (s->step >= 0)
        snprintf(out, out_bytes, "%s step %lld", phase, (long long)s->step);
    else
        snprintf(out, out_bytes, "%s", phase);
}

void state_describe(const struct rank_state *s, char *out, size_t out_bytes)
{
    const struct state_record *r = state_latest(s);
    char place[STATE_PHASE + 32], what[64], time[32];
    state_place(s, place, sizeof place);
    if (!r) {
        snprintf(out, out_bytes, "%s, before its first collective", place);
        return;
    }
    record_describe(r, what, sizeof what);
    const double since_s = state_inside(s) ? r->entered_s : r->left_s; // rounded, perhaps up
    format_duration(fmax(fmax(s->alive_s, s->changed_s) - since_s, 0.0), time, sizeof time);
    snprintf(out, out_bytes, "%s, %s %s for %s", place, state_inside(s) ? "in" : "after", what,
             time);
}
