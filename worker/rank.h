#pragma once
// What one rank has at hand through a whole run: its peers, engine, data, folder and clocks.

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/recipe.h"
#include "comm/comm.h"
#include "comm/watchdog.h"
#include "data/dataset.h"
#include "data/shard.h"
#include "models/engine.h"
#include "worker/device.h"
#include "worker/metrics.h"

struct rank {
    char folder[PATH_CAPACITY]; // the run folder
    struct recipe recipe;
    struct comm *comm;         // borrowed from main
    struct watchdog *watchdog; // owned
    struct engine *engine;     // owned
    struct device_comm *gpus;  // owned: between ranks with a GPU each; NULL on other devices
    struct dataset dataset;    // open
    struct shard *train, *val; // owned
    uint64_t view_seed;        // keys the student's views: run.seed, or that of logits.path
    struct metrics *metrics;   // owned; rank 0 writes, the others have one that does nothing
    bool agreed;               // the code on its way out is every rank's
};

// Collective. Opens everything: recipe.yaml of the folder, logger, engine, data set and both
// shards. `device` as of the command line, not "auto". On failure close it all the same.
int rank_open(struct rank *r, struct comm *comm, const char *folder, const char *device);
// Takes a half-open one. `code`: what the run ends with. Collective where r->agreed or all is well;
// else the caller ends all ranks.
void rank_close(struct rank *r, int code);

// Collective. Ends a phase: every rank leaves with the same code.
int rank_agree(struct rank *r, int code);
// Collective. True on the lowest rank that says it has failed: what several see is said once.
bool rank_speaks(struct rank *r, bool failed);
// Collective. Refuses when `digest`, of what this rank read at `path`, is not rank 0's: hosts may
// hold different files under one name.
int rank_same_file(struct rank *r, const char *path, const char digest[33]);
// Collective. Opens r->dataset; the same file on every rank.
int rank_open_dataset(struct rank *r, const char *path);
// Not collective. RETORT_BUSY when another launcher than ours owns the folder by now: before
// anything is written that the other run's ranks would read.
int rank_check_owner(const struct rank *r);
// "f32", "f64", "bf16", "tf32" or "fp16": of activations.
const char *rank_precision(const struct rank *r);
static inline bool rank_is_first(const struct rank *r)
{
    return comm_rank(r->comm) == 0;
}

// TRY for what every rank does alike, with a file that all read: rank 0 goes first, and the others
// only when it went well, so that what is wrong is said once. Collective.
#define TRY_IN_TURN(rank, call)                                                                    \
    do {                                                                                           \
        TRY(rank_agree((rank), rank_is_first(rank) ? (call) : RETORT_OK));                         \
        TRY(rank_agree((rank), rank_is_first(rank) ? RETORT_OK : (call)));                         \
    } while (0)

// Set by SIGUSR1, which the launcher sends for INT and TERM too.
void stop_signal_install(void);
bool stop_requested(const struct rank *r); // the signal, or the folder's stop file (rank 0 looks)
