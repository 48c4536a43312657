#include "worker/plan_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/log.h"

enum {
    KERNELS =
        5, // raised when an engine gets other kernels: a plan timed without them is no best one
    PLAN_LIMIT = 1 << 20,
    HEAD_CAPACITY = 128
};

void plan_cache_path(char out[PATH_CAPACITY], const struct engine *e, const struct graph *g,
                     int max_batch)
{
    char key[512], name[64];
    const struct node *in = &g->nodes[0];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool own = cache && cache[0];
    const char *folder = own ? cache : home;
    out[0] = '\0';
    if (!folder || !folder[0])
        return;
    (void)snprintf(key, sizeof key, "%s|%d|%s|%d|%s|%dx%d|%d|%zu|%d", RETORT_VERSION, (int)KERNELS,
                   engine_describe(e), engine_is_deterministic(e), g->arch, in->height, in->width,
                   g->classes, g->total, max_batch);
    (void)snprintf(name, sizeof name, "/retort/plans/%016llx.txt",
                   (unsigned long long)XXH3_64bits(key, strlen(key)));
    int used = snprintf(out, PATH_CAPACITY, "%s%s%s", folder, own ? "" : "/.cache", name);
    if (used >= PATH_CAPACITY)
        out[0] = '\0';
}

static void head_of(char head[HEAD_CAPACITY], const char *plan)
{
    (void)snprintf(head, HEAD_CAPACITY, "retort %s plan %016llx\n", RETORT_VERSION,
                   (unsigned long long)XXH3_64bits(plan, strlen(plan)));
}

char *plan_cache_read(const char *path)
{
    char *text = NULL, head[HEAD_CAPACITY];
    size_t bytes;
    if (!path[0] || access(path, R_OK) != 0 ||
        file_read(path, PLAN_LIMIT, &text, &bytes) != RETORT_OK)
        return NULL;
    char *end = strchr(text, '\n');
    const char *plan = end ? end + 1 : "";
    head_of(head, plan);
    if (end && strncmp(text, head, (size_t)(plan - text)) == 0) {
        memmove(text, plan, strlen(plan) + 1);
        return text;
    }
    log_warn("the cached engine plan %s is damaged; a new one is chosen", path);
    free(text);
    return NULL;
}

void plan_cache_write(const char *path, const char *plan)
{
    char head[HEAD_CAPACITY];
    head_of(head, plan);
    size_t head_bytes = strlen(head), bytes = strlen(plan);
    char *text = path[0] ? malloc(head_bytes + bytes + 1) : NULL;
    if (!text)
        return;
    memcpy(text, head, head_bytes);
    memcpy(text + head_bytes, plan, bytes + 1);
    (void)file_offer(path, text, head_bytes + bytes);
    free(text);
}
