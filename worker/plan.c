#include "worker/plan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/trainer.h"

enum { PLAN_LIMIT = 1 << 20 };

static char *read_if_there(const char *path)
{
    char *text = NULL;
    size_t bytes;
    if (file_exists(path) && file_read(path, PLAN_LIMIT, &text, &bytes) == RETORT_OK)
        return text;
    return NULL;
}

// The cache's file for this network on this machine; "" when there is no home.
static void cache_path(char *out, const struct rank *rank, const struct graph *g, int max_batch)
{
    char key[512], folder[PATH_CAPACITY - 64];
    const struct node *in = &g->nodes[0];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    out[0] = '\0';
    if (cache && cache[0])
        (void)snprintf(folder, sizeof folder, "%s/retort/plans", cache);
    else if (home && home[0])
        (void)snprintf(folder, sizeof folder, "%s/.cache/retort/plans", home);
    else
        return;
    (void)snprintf(key, sizeof key, "%s|%s|%dx%d|%d|%zu|%d", engine_describe(rank->engine), g->arch,
                   in->height, in->width, g->classes, g->total, max_batch);
    if (folder_create(folder) == RETORT_OK && access(folder, W_OK) == 0)
        (void)snprintf(out, PATH_CAPACITY, "%s/%016llx.txt", folder,
                       (unsigned long long)XXH3_64bits(key, strlen(key)));
}

static int build_network(struct network **out, const struct rank *rank, const struct graph *g,
                         int max_batch, const char *plan)
{
    struct network_options options = {.max_batch = max_batch, .training = true, .plan = plan};
    return network_create(out, rank->engine, g, &options);
}

// A plan of the cache is a convenience: one that the engine refuses is chosen again.
static bool plan_works(struct network **out, const struct rank *rank, const struct graph *g,
                       int max_batch, const char *plan)
{
    if (build_network(out, rank, g, max_batch, plan) == RETORT_OK)
        return true;
    log_warn("the plan this machine had cached for %s is of no use", g->arch);
    *out = NULL;
    return false;
}

// Rank 0: the network, by the stored plan, the cached one, or timing; the plan is stored.
static int choose(struct network **out, char **plan, struct rank *rank, const struct graph *g,
                  int max_batch, enum stage stage)
{
    char folder[PATH_CAPACITY], stored[PATH_CAPACITY], cached[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(stage_folder(folder, rank, stage));
    TRY(folder_create(folder));
    TRY(path_join(stored, folder, "plan.txt"));
    cache_path(cached, rank, g, max_batch);
    *plan = read_if_there(stored);
    bool is_new = !*plan;
    if (is_new)
        *plan = read_if_there(cached);
    if (is_new && *plan && !plan_works(out, rank, g, max_batch, *plan)) {
        free(*plan);
        *plan = NULL;
    }
    if (!*plan) {
        log_info("choosing the fastest algorithm of each layer of %s", g->arch);
        TRY(build_network(out, rank, g, max_batch, NULL));
        TRY(network_plan(*out, plan));
        if (cached[0])
            TRY(file_write_whole(cached, *plan, strlen(*plan)));
    }
    if (!*out)
        TRY(build_network(out, rank, g, max_batch, *plan));
    if (is_new)
        TRY(file_write_whole(stored, *plan, strlen(*plan)));
fail:
    return rc;
}

int plan_network(struct network **out, char **plan, struct rank *rank, const struct graph *graph,
                 int max_batch, enum stage stage)
{
    int rc = RETORT_OK;
    if (rank_is_first(rank))
        rc = choose(out, plan, rank, graph, max_batch, stage);
    TRY(rank_agree(rank, rc));
    int64_t bytes = *plan ? (int64_t)strlen(*plan) + 1 : 0;
    TRY(comm_broadcast(rank->comm, &bytes, sizeof bytes, 0));
    if (!rank_is_first(rank))
        *plan = malloc((size_t)bytes);
    TRY_ELSE(*plan, RETORT_MEMORY, "no memory for an engine plan");
    TRY(comm_broadcast(rank->comm, *plan, (size_t)bytes, 0));
    if (!rank_is_first(rank))
        TRY(build_network(out, rank, graph, max_batch, *plan));
fail:
    return rc;
}
