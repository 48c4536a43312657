#pragma once
// Engine plans: which algorithm each layer uses. They change bits, so they are chosen once.
//
// Where a plan comes from, first hit: the stage's plan.txt in the run folder (what the run began
// with); the machine's cache (worker/plan_cache.h); timing by rank 0. Whatever was used is in
// plan.txt before step 1.

#include "worker/rank.h"

// Collective. The network of a stage for micro-batches of up to max_batch, and its plan (the
// caller's to free).
int plan_network(struct network **out, char **plan, struct rank *rank, const struct graph *graph,
                 int max_batch, enum stage stage);

// The plan of a checkpoint's state, the caller's to free; NULL when it was trained without, or on
// another device.
char *plan_of_state(const json_t *state, const struct engine *e);
// A plan for a network that brings none along: the cached one, else by timing. Says nothing. The
// caller's to free. Not collective.
int plan_choose(char **plan, struct engine *e, const struct graph *graph, int max_batch);
// Collective. The same where *plan is NULL on rank 0, by whose choice all go then.
int plan_complete(char **plan, struct rank *rank, const struct graph *graph, int max_batch);
