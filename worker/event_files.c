#include "worker/event_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "worker/event_record.h"

// Any name with "tfevents" in it is an event file; they are read in the order of their names.
static const char NAME[] = "events.out.tfevents.";

struct event_files {
    char root[PATH_CAPACITY]; // <run folder>/tensorboard
    char stage[32];           // "" before the first
    char path[PATH_CAPACITY]; // of the file that is open
    int file;                 // its descriptor, or -1
    int64_t void_from;
    bool gave_up;
};

// No two of one event have a tag in common: a step has one value of each.
static const struct curve {
    const char *event, *member, *tag;
} CURVES[] = {
    {"train", "loss", "train/loss"},
    {"train", "ce", "train/ce"},
    {"train", "kd", "train/kd"},
    {"train", "train_top1", "train/top1"},
    {"train", "lr", "lr"},
    {"train", "images_per_s", "images_per_s"},
    {"epoch", "loss", "epoch/loss"},
    {"epoch", "train_top1", "epoch/top1"},
    {"epoch", "images_per_s", "epoch/images_per_s"},
    {"epoch", "val_loss", "val/loss"},
    {"epoch", "top1", "val/top1"},
    {"epoch", "top5", "val/top5"},
    {"epoch", "ema_loss", "val/ema_loss"},
    {"epoch", "ema_top1", "val/ema_top1"},
    {"epoch", "ema_top5", "val/ema_top5"},
};
enum { CURVE_COUNT = sizeof CURVES / sizeof CURVES[0] };
_Static_assert((int)CURVE_COUNT <= (int)EVENT_SCALARS, "a line's numbers fit a record");

struct event_files *event_files_create(const char *folder)
{
    struct event_files *e = calloc(1, sizeof *e);
    if (!e) {
        log_warn("no memory for the curves of TensorBoard");
        return NULL;
    }
    e->file = -1;
    int length = snprintf(e->root, sizeof e->root, "%s/tensorboard", folder);
    e->gave_up = length < 0 || (size_t)length >= sizeof e->root;
    return e;
}

static void close_file(struct event_files *e)
{
    if (e->file >= 0)
        (void)close(e->file);
    e->file = -1;
}

void event_files_destroy(struct event_files **p)
{
    if (*p)
        close_file(*p);
    free(*p);
    *p = NULL;
}

static void give_up(struct event_files *e)
{
    log_warn("no curves for TensorBoard from here on: cannot write %s: %s", e->path,
             strerror(errno));
    close_file(e);
    e->gave_up = true;
}

void event_files_resume(struct event_files *e, const char *stage, int64_t step)
{
    if (!e)
        return;
    close_file(e);
    (void)snprintf(e->stage, sizeof e->stage, "%s", stage);
    e->void_from = step;
}

// 1 more than the last file's number.
static long next_number(const char *folder)
{
    long last = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries)) != NULL;) {
        if (strncmp(entry->d_name, NAME, sizeof NAME - 1) != 0)
            continue;
        long number = strtol(entry->d_name + sizeof NAME - 1, NULL, 10);
        last = number > last ? number : last;
    }
    if (entries)
        (void)closedir(entries);
    return last + 1;
}

// With its first two records, or not at all.
static bool open_file(struct event_files *e)
{
    char folder[PATH_CAPACITY];
    uint8_t head[2 * EVENT_BYTES];
    struct event_record version, start;
    event_record_version(&version);
    event_record_start(&start, e->void_from);
    memcpy(head, version.data, version.bytes);
    memcpy(head + version.bytes, start.data, start.bytes);

    errno = ENAMETOOLONG;
    int length = snprintf(folder, sizeof folder, "%s/%s", e->root, e->stage);
    if (length < 0 || (size_t)length >= sizeof folder)
        return false;
    length = snprintf(e->path, sizeof e->path, "%s/%s%06ld", folder, NAME, next_number(folder));
    if (length < 0 || (size_t)length >= sizeof e->path)
        return false;
    if (file_offer(e->path, head, version.bytes + start.bytes))
        e->file = open(e->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return e->file >= 0;
}

void event_files_add(struct event_files *e, const json_t *line)
{
    struct scalar scalars[CURVE_COUNT];
    struct event_record record;
    size_t count = 0;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (!e || e->gave_up || !e->stage[0] || !event)
        return;
    for (size_t i = 0; i < CURVE_COUNT; i++) {
        const json_t *value = json_object_get(line, CURVES[i].member);
        if (strcmp(event, CURVES[i].event) == 0 && json_is_number(value))
            scalars[count++] = (struct scalar){CURVES[i].tag, (float)json_number_value(value)};
    }
    if (count == 0)
        return;
    if (e->file < 0 && !open_file(e)) {
        give_up(e);
        return;
    }
    event_record_scalars(&record, json_integer_value(json_object_get(line, "step")), scalars,
                         count);
    errno = ENOSPC; // why else a part would be written
    if (write(e->file, record.data, record.bytes) != (ssize_t)record.bytes)
        give_up(e);
}

void event_files_flush(struct event_files *e)
{
    if (e && e->file >= 0)
        (void)fdatasync(e->file); // what a power failure takes of curves is no loss
}
