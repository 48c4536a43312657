#pragma once
// Who owns a run folder: owner.json, kept fresh by the launcher that runs there.
//
// An owner is alive when, on this machine, its process is; on another one, when its last beat is
// younger than OWNER_STALE_S. How old it is, the file server's clock says, not ours. No file lock:
// network file systems do not keep them; what must be one run's alone is made by link().

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/file.h"

enum { OWNER_BEAT_S = 10, OWNER_STALE_S = 60, OWNER_NAME = 256, OWNER_TOKEN = 33 };

struct owner {
    char path[PATH_CAPACITY]; // of owner.json; "" when nothing is owned
    char token[OWNER_TOKEN];  // of this start alone
    char host[OWNER_NAME], job[OWNER_NAME];
    char machine[OWNER_NAME]; // the kernel's boot and the pid namespace: where `pid` means anything
    int64_t pid, start_ticks;
    int64_t job_start;     // the how-manieth start of the job, from 0: Slurm may bring it back
    int64_t started, beat; // seconds since 1970
    double age_s;          // of the last beat, when the file was read
};

// Reads the folder's owner.json; false when there is none or it makes no sense.
bool owner_read(struct owner *out, const char *folder);
bool owner_is_alive(const struct owner *o);
bool owner_is_here(const struct owner *o); // on this machine

// RETORT_BUSY with one line when a living run owns the folder.
int owner_check(const char *folder);
// Makes this process the folder's owner, or RETORT_BUSY (owner_take.c).
int owner_take(struct owner *o, const char *folder);
// Call every OWNER_BEAT_S. False when the folder is another run's by now, as after a machine that
// slept for longer than OWNER_STALE_S: end without touching it. A beat that cannot be written is no
// reason to end a run.
bool owner_refresh(struct owner *o);
// Removes the file, if it is still ours. Takes one that owns nothing.
void owner_release(struct owner *o);

// For owner_take.c: names this process, and the file's text, the caller's to free() (NULL: no
// memory).
void owner_name_self(struct owner *o);
char *owner_text(const struct owner *o);
// The name that a file at `path` has until it is whole: processes of two hosts may share a number.
void owner_partial(char out[PATH_CAPACITY + OWNER_TOKEN], const char *path, const struct owner *o);
// How long ago a file was written by the clock of its file system, ours where it cannot be asked.
double owner_file_age(const char *folder, const char *path);
