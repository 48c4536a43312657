// How a folder becomes one run's: a file of a name that only one can make, and for a dead owner's a
// second such file, whose maker alone may replace the first.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "launcher/owner.h"

enum made { MADE, EXISTS, CANNOT }; // CANNOT: with errno

// Creates the file unless it is there, whole at once. A server whose answer was lost is asked again
// and says EEXIST: the number of names tells.
static enum made create_exclusively(const char *path, const struct owner *o, const char *text)
{
    char partial[PATH_CAPACITY + OWNER_TOKEN];
    struct stat info;
    owner_partial(partial, path, o);
    FILE *file = fopen(partial, "we");
    bool written = file && fputs(text, file) >= 0;
    written = file && fclose(file) == 0 && written;
    bool linked = written && link(partial, path) == 0;
    int why = errno;
    linked = linked || (written && stat(partial, &info) == 0 && info.st_nlink == 2);
    unlink(partial);
    errno = why;
    return linked ? MADE : why == EEXIST ? EXISTS : CANNOT;
}

static int refuse_rival(const char *folder)
{
    return FAIL(RETORT_BUSY, "%s is being taken by another run in this moment", folder);
}

// Makes `lock`; one that a launcher left behind as it died is removed first. File systems without
// hard links have none, and there the last writer is the owner.
static int take_lock(const char *lock, const struct owner *o, const char *folder, const char *text)
{
    enum made made = create_exclusively(lock, o, text);
    if (made == EXISTS && owner_file_age(folder, lock) > OWNER_STALE_S) {
        unlink(lock);
        made = create_exclusively(lock, o, text);
    }
    return made == EXISTS ? refuse_rival(folder) : RETORT_OK;
}

// The lock is held: nobody else replaces the file of a dead owner. It may have been replaced, or
// even be gone, since we looked.
static int replace(struct owner *o, const char *folder, const char *text)
{
    const struct timespec settle = {.tv_nsec = 200000000}; // for rivals that have no lock
    struct owner winner;
    int rc = owner_check(folder);
    if (rc != RETORT_OK)
        return rc;
    enum made made = file_exists(o->path) ? CANNOT : create_exclusively(o->path, o, text);
    if (made != CANNOT)
        return made == MADE ? RETORT_OK : refuse_rival(folder);
    rc = file_write_whole(o->path, text, strlen(text));
    if (rc != RETORT_OK)
        return rc;
    nanosleep(&settle, NULL);
    if (owner_read(&winner, folder) && strcmp(winner.token, o->token) == 0)
        return RETORT_OK;
    return refuse_rival(folder);
}

static int take_over(struct owner *o, const char *folder, const char *text)
{
    char lock[PATH_CAPACITY];
    int rc = path_join(lock, folder, "owner.json.lock");
    if (rc == RETORT_OK)
        rc = take_lock(lock, o, folder, text);
    if (rc != RETORT_OK)
        return rc;
    rc = replace(o, folder, text);
    unlink(lock);
    return rc;
}

int owner_take(struct owner *o, const char *folder)
{
    owner_name_self(o);
    int rc = path_join(o->path, folder, "owner.json");
    char *text = owner_text(o);
    if (rc == RETORT_OK && !text)
        rc = FAIL(RETORT_MEMORY, "no memory for %s", o->path);
    if (rc == RETORT_OK && create_exclusively(o->path, o, text) != MADE) {
        rc = owner_check(folder);
        if (rc == RETORT_OK)
            rc = take_over(o, folder, text);
    }
    if (rc != RETORT_OK)
        o->path[0] = '\0';
    free(text);
    return rc;
}
