#pragma once
// Who owns a run folder: owner.json, kept fresh by the launcher that runs there.
//
// An owner is alive when, on this host, its process is; on another host, when its last beat is
// younger than OWNER_STALE_S. No file lock: network file systems do not keep them.

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/file.h"

enum { OWNER_BEAT_S = 10, OWNER_STALE_S = 60, OWNER_NAME = 256 };

struct owner {
    char path[PATH_CAPACITY]; // of owner.json; "" when nothing is owned
    char host[OWNER_NAME], job[OWNER_NAME];
    int64_t pid, start_ticks;
    int64_t started, beat; // seconds since 1970
};

// Reads the folder's owner.json; false when there is none or it makes no sense.
bool owner_read(struct owner *out, const char *folder);
bool owner_is_alive(const struct owner *o);
bool owner_is_here(const struct owner *o); // on this host

// RETORT_BUSY with one line when a living run owns the folder.
int owner_check(const char *folder);
// Makes this process the folder's owner, or RETORT_BUSY.
int owner_take(struct owner *o, const char *folder);
// Call every OWNER_BEAT_S. A beat that cannot be written is no reason to end a run.
void owner_refresh(struct owner *o);
// Removes the file. Takes one that owns nothing.
void owner_release(struct owner *o);
