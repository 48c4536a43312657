#pragma once
// The steps that `retort bench` measures: their networks, memory and samples.

#include "worker/bench.h"

struct bench {
    const struct bench_options *options;
    struct comm *comm;
    struct engine *engine;
    struct device_comm *gpus;
    struct graph *graph;
    struct network *network;
    struct microbatches microbatches;
    struct arenas arenas;
    struct step_scalars *scalars;
    double *sums;
    int32_t *labels;
    uint8_t *pixels;
    struct recorded *recorded; // the step, where the engine replays it
    int64_t first, last;       // this rank's micro-batches
    int64_t step;
    double seconds[BENCH_PARTS]; // from MICROBATCH_PARTS on
};

// Collective. Leaves with one code. `options` and `comm` are set; what is made is bench_close's.
int bench_open(struct bench *b);
// `agreed`: the other ranks close too.
void bench_close(struct bench *b, bool agreed);
// Whether the engine replays steps: then they have no parts, unless microbatches.timed.
bool bench_replays(const struct bench *b);
// Collective. One step; where parts are timed it waits after each.
int bench_step(struct bench *b);
