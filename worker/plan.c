#include "worker/plan.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/plan_cache.h"
#include "worker/trainer.h"

enum { PLAN_LIMIT = 1 << 20 };

static int build_network(struct network **out, struct engine *e, const struct graph *g,
                         int max_batch, const char *plan)
{
    struct network_options options = {.max_batch = max_batch, .training = true, .plan = plan};
    return network_create(out, e, g, &options);
}

// The network by the run folder's own plan: that one or none.
static int build_by_stored(struct network **out, char **plan, const struct rank *rank,
                           const struct graph *g, int max_batch, const char *stored)
{
    size_t bytes;
    int rc = RETORT_OK;
    TRY(file_read(stored, PLAN_LIMIT, plan, &bytes));
    TRY(build_network(out, rank->engine, g, max_batch, *plan));
fail:
    return rc;
}

// By the machine's cached plan, else by timing. One that the engine refuses (it says why) is chosen
// again.
static int build_new(struct network **out, char **plan, struct engine *e, const struct graph *g,
                     int max_batch, bool aloud)
{
    char cached[PATH_CAPACITY];
    int rc = RETORT_USAGE;
    plan_cache_path(cached, e, g, max_batch);
    *plan = plan_cache_read(cached);
    if (*plan)
        rc = build_network(out, e, g, max_batch, *plan);
    if (rc != RETORT_USAGE)
        return rc;
    free(*plan);
    *plan = NULL;
    if (aloud)
        log_info("choosing the fastest algorithm of each layer of %s", g->arch);
    TRY(build_network(out, e, g, max_batch, NULL));
    TRY(network_plan(*out, plan));
    plan_cache_write(cached, *plan);
fail:
    return rc;
}

// Rank 0: the network, by the stored plan, the cached one, or timing; the plan is stored.
static int choose(struct network **out, char **plan, struct rank *rank, const struct graph *g,
                  int max_batch, enum stage stage)
{
    char folder[PATH_CAPACITY], stored[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(stage_folder(folder, rank, stage));
    TRY(folder_create(folder));
    TRY(path_join(stored, folder, "plan.txt"));
    if (file_exists(stored))
        return build_by_stored(out, plan, rank, g, max_batch, stored);
    TRY(build_new(out, plan, rank->engine, g, max_batch, true));
    TRY(file_write_whole(stored, *plan, strlen(*plan)));
fail:
    return rc;
}

// Rank 0's plan to all.
static int share(char **plan, struct rank *rank)
{
    int64_t bytes = *plan ? (int64_t)strlen(*plan) + 1 : 0;
    int rc = RETORT_OK;
    TRY(comm_broadcast(rank->comm, &bytes, sizeof bytes, 0));
    if (!rank_is_first(rank)) {
        free(*plan);
        *plan = malloc((size_t)bytes);
    }
    if (!*plan)
        rc = FAIL(RETORT_MEMORY, "no memory for an engine plan");
    TRY(rank_agree(rank, rc)); // a broadcast that one rank skips would hang the others
    TRY(comm_broadcast(rank->comm, *plan, (size_t)bytes, 0));
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
    TRY(share(plan, rank));
    if (!rank_is_first(rank))
        TRY(build_network(out, rank->engine, graph, max_batch, *plan));
fail:
    return rc;
}

char *plan_of_state(const json_t *state, const struct engine *e)
{
    const char *text = json_string_value(json_object_get(state, "plan"));
    const char *device = json_string_value(json_object_get(state, "device"));
    const bool other = device && strcmp(device, engine_name(e)) != 0;
    return text && text[0] && !other ? strdup(text) : NULL;
}

int plan_choose(char **plan, struct engine *e, const struct graph *graph, int max_batch)
{
    struct network *n = NULL;
    int rc = build_new(&n, plan, e, graph, max_batch, false);
    network_destroy(&n);
    return rc;
}

int plan_complete(char **plan, struct rank *rank, const struct graph *graph, int max_batch)
{
    int rc = RETORT_OK;
    if (rank_is_first(rank) && !*plan)
        rc = plan_choose(plan, rank->engine, graph, max_batch);
    rc = rank_agree(rank, rc);
    return rc == RETORT_OK ? share(plan, rank) : rc;
}
