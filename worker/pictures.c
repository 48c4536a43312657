#include "worker/pictures.h"

#include "base/log.h"
#include "worker/trainer.h"

// ---- the engine's memory, for data/

static void *alloc(void *context, size_t bytes)
{
    const struct rank *r = context;
    const bool alone = !r->gpus || device_comm_capturable(r->gpus); // else two ranks share a GPU
    return engine_alloc_spare(r->engine, bytes, alone ? 1 : comm_local_size(r->comm));
}

static void release(void *context, void *p)
{
    const struct rank *r = context;
    engine_free(r->engine, p);
}

static int upload(void *context, void *to, const void *from, size_t bytes)
{
    const struct rank *r = context;
    return engine_upload(r->engine, to, from, bytes);
}

static int gather(void *context, void *to, const void *from, const int64_t *rows, int64_t count,
                  size_t row_bytes)
{
    const struct rank *r = context;
    return engine_gather(r->engine, to, from, rows, (size_t)count, row_bytes);
}

// ---- shards

// Said once, by rank 0: all ranks stay in the host's memory when one has to.
static void say_where(const struct rank *r, const struct shard *s, enum dataset_split split)
{
    char bytes[32];
    if (shard_resident(s) > 0 || shard_count(s) == 0)
        return;
    format_bytes((double)shard_memory(s), bytes, sizeof bytes);
    log_info(
        "a GPU has no room to spare for the pictures of %s (%s): they stay in the host's memory%s",
        dataset_split_name(split), bytes, comm_size(r->comm) > 1 ? " on all ranks" : "");
}

int pictures_open(struct shard **out, struct rank *r, enum dataset_split split, bool trains)
{
    const enum stage trained[] = {STAGE_TEACHER, STAGE_STUDENT};
    enum { TRAINED = sizeof trained / sizeof *trained };
    struct sampler samplers[TRAINED];
    struct shard_home home = {
        .memory = {r, alloc, release, upload, gather, false},
        .samplers = samplers,
    };
    const bool at_home = engine_stream(r->engine) != NULL;
    for (int i = 0; at_home && trains && i < TRAINED; i++)
        samplers[home.sampler_count++] = stage_sampler(r, trained[i]);
    int rc = shard_open(out, r->comm, &r->dataset, split, at_home ? &home : NULL);
    if (rc == RETORT_OK && at_home)
        say_where(r, *out, split);
    return rc;
}
