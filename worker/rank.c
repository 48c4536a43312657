#include "worker/rank.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "data/logits.h"
#include "worker/pictures.h"

static volatile sig_atomic_t stop_signalled;

static void on_stop(int signal_number)
{
    (void)signal_number;
    stop_signalled = 1;
}

void stop_signal_install(void)
{
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGUSR1, &action, NULL);
}

bool stop_requested(const struct rank *r)
{
    char path[PATH_CAPACITY];
    if (stop_signalled)
        return true;
    return rank_is_first(r) && path_join(path, r->folder, "stop-requested") == RETORT_OK &&
           file_exists(path);
}

int rank_agree(struct rank *r, int code)
{
    int all = comm_agree(r->comm, code);
    if (all != RETORT_OK)
        r->agreed = true;
    return all;
}

bool rank_speaks(struct rank *r, bool failed)
{
    int mine = failed ? comm_size(r->comm) - comm_rank(r->comm) : 0;
    return comm_agree(r->comm, mine) == mine && failed;
}

const char *rank_precision(const struct rank *r)
{
    return device_precision_name(r->engine, r->recipe.run.precision);
}

int rank_check_owner(const struct rank *r)
{
    char path[PATH_CAPACITY];
    const char *mine = getenv("RETORT_OWNER");
    int rc = path_join(path, r->folder, "owner.json");
    if (rc != RETORT_OK || !mine)
        return rc;
    json_t *owner = json_load_file(path, 0, NULL); // one that cannot be read now may be ours
    const char *token = json_string_value(json_object_get(owner, "token"));
    if (token && strcmp(token, mine) != 0)
        rc = FAIL(RETORT_BUSY, "%s was taken by another run; this one ends", r->folder);
    json_decref(owner);
    return rc;
}

int rank_same_file(struct rank *r, const char *path, const char digest[33])
{
    char first[33];
    int rc = RETORT_OK;
    memcpy(first, digest, sizeof first);
    TRY(comm_broadcast(r->comm, first, sizeof first, 0));
    if (rank_speaks(r, strcmp(first, digest) != 0))
        rc = FAIL(RETORT_INPUT,
                  "%s is another file here than on rank 0 (fingerprint %s, there %s); put the same "
                  "one on every host",
                  path, digest, first);
    TRY(rank_agree(r, rc));
fail:
    return rc;
}

int rank_open_dataset(struct rank *r, const char *path)
{
    int rc = RETORT_OK;
    TRY_IN_TURN(r, dataset_open(&r->dataset, path));
    TRY(rank_same_file(r, path, r->dataset.fingerprint));
fail:
    return rc;
}

static int open_folder(struct rank *r, const char *folder)
{
    char path[PATH_CAPACITY];
    int rc = RETORT_OK;
    TRY(path_join(path, folder, "log.txt"));
    TRY(log_open(path));
    TRY(path_join(path, folder, "ranks"));
    TRY(watchdog_create(&r->watchdog, path, comm_rank(r->comm), comm_size(r->comm),
                        comm_host(r->comm), r->recipe.run.watchdog_s));
    TRY(metrics_create(&r->metrics, folder, rank_is_first(r)));
fail:
    return rc;
}

static int open_engine(struct rank *r, const char *device)
{
    struct engine_options options = {
        .device = device,
        .threads = (int)r->recipe.run.threads,
        .local_rank = comm_local_rank(r->comm),
        .precision = r->recipe.run.precision,
        .deterministic = r->recipe.run.deterministic,
    };
    return engine_open(&r->engine, &options);
}

static int open_data(struct rank *r)
{
    int rc = RETORT_OK;
    watchdog_phase(r->watchdog, "reading data");
    TRY(rank_open_dataset(r, r->recipe.data.path));
    TRY(rank_agree(r, pictures_open(&r->train, r, SPLIT_TRAIN, true)));
    TRY(rank_agree(r, pictures_open(&r->val, r, SPLIT_VAL, false)));
fail:
    return rc;
}

// With logits.path, the student sees the views that file was made of: their number and their seed.
static int adopt_views(struct rank *r)
{
    struct logit_store store;
    r->view_seed = (uint64_t)r->recipe.run.seed;
    if (!r->recipe.logits.path[0])
        return RETORT_OK;
    int rc = logit_store_open(&store, r->recipe.logits.path, false);
    if (rc == RETORT_OK) {
        r->recipe.logits.views = store.identity.views;
        r->view_seed = store.identity.seed;
    }
    logit_store_close(&store);
    return rc;
}

// A run goes on where it began: engine plans, and with them bits, are a device's own. Rank 0.
static int keep_device(const struct rank *r)
{
    char path[PATH_CAPACITY], line[64], *began = NULL;
    const char *device = engine_name(r->engine);
    size_t bytes;
    int rc = RETORT_OK;
    TRY(path_join(path, r->folder, "device.txt"));
    (void)snprintf(line, sizeof line, "%s\n", device);
    if (!file_exists(path))
        return file_write_whole(path, line, strlen(line));
    TRY(file_read(path, PATH_CAPACITY, &began, &bytes));
    began[strcspn(began, "\n")] = '\0';
    TRY_ELSE(strcmp(began, device) == 0, RETORT_USAGE,
             "%s was begun on device %s, not %s: go on with --device %s, or anew with --fresh",
             r->folder, began, device, began);
fail:
    free(began);
    return rc;
}

int rank_open(struct rank *r, struct comm *comm, const char *folder, const char *device)
{
    char path[PATH_CAPACITY];
    int rc = RETORT_OK;
    memset(r, 0, sizeof *r);
    r->comm = comm;
    r->dataset.file.id = -1;
    TRY(rank_agree(r, path_join(r->folder, folder, "")));
    r->folder[strlen(r->folder) - 1] = '\0'; // without the slash
    TRY(rank_agree(r, path_join(path, folder, "recipe.yaml")));
    TRY_IN_TURN(r, recipe_load(&r->recipe, path));
    TRY_IN_TURN(r, open_folder(r, folder));
    comm_attach_watchdog(comm, r->watchdog); // at one point of all ranks: it counts
    TRY_IN_TURN(r, open_engine(r, device));
    TRY(rank_agree(r, device_connect(&r->gpus, comm, r->engine, device, 0)));
    TRY(open_data(r));
    TRY_IN_TURN(r, adopt_views(r));
    TRY(rank_agree(r, rank_is_first(r) ? keep_device(r) : RETORT_OK));
    const bool joined = comm_size(comm) > 1 && r->gpus && device_comm_capturable(r->gpus);
    log_info("%d rank%s on %s%s%s; %lld training and %lld validation pictures, %d classes",
             comm_size(comm), comm_size(comm) == 1 ? "" : "s", engine_describe(r->engine),
             joined ? ", joined by " : "", joined ? device_comm_describe(r->gpus) : "",
             (long long)r->dataset.count[SPLIT_TRAIN], (long long)r->dataset.count[SPLIT_VAL],
             r->dataset.class_count);
fail:
    return rc;
}

void rank_close(struct rank *r, int code)
{
    shard_close(&r->val);
    shard_close(&r->train);
    dataset_close(&r->dataset);
    if (code == RETORT_OK || r->agreed)
        device_disconnect(&r->gpus, r->comm);
    engine_close(&r->engine);
    metrics_destroy(&r->metrics);
    comm_attach_watchdog(r->comm, NULL);
    watchdog_destroy(&r->watchdog, code);
    log_close();
}
