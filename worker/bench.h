#pragma once
// Whole training steps against the clock, on synthetic pictures: no data set, no run folder.
//
// A step is what a run's step is: the gradients of this rank's micro-batches, the sum over ranks,
// the update, the weights handed to the network. Where the engine replays steps (engine_record), so
// do these; their parts are timed in steps of their own, which wait after each. Not for sums that
// run beside backward: what they take when it has ended is their time.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm/comm.h"
#include "worker/microbatches.h"

enum bench_part { // after those of enum microbatch_part
    BENCH_UPDATE = MICROBATCH_PARTS,
    BENCH_SET_WEIGHTS,
    BENCH_PARTS
};
enum { BENCH_WINDOWS = 7 };

struct bench_options {
    const char *arch, *device; // borrowed
    int64_t norm, precision;   // enum norm_kind, enum precision_kind
    int batch, microbatches;   // global
    int threads;               // of each rank
    int seconds;               // of measuring, all windows
    int size, classes;         // of the pictures
};

struct bench_result {
    double images_per_s;           // of all ranks: median of the windows
    double spread;                 // (fastest - slowest window) / median
    double windows[BENCH_WINDOWS]; // images/s, in order
    double share[BENCH_PARTS];     // of this rank's time; they add up to almost 1 (see above)
    int64_t steps;                 // of all windows
    double step_ms;                // mean
    size_t network_bytes;          // a rank's networks and their pictures
    size_t peak_memory_bytes;      // the largest rank's, resident
    double flops_per_image;        // forward and both gradients
    char processor[384];           // engine_describe
    const char *precision;         // "f32", "f64", "bf16", "tf32", "fp16"
    int ranks;
};

// Collective. Every rank gets the same result but for `share`. *agreed: the code that is returned
// is every rank's; where it is not, end them all.
int bench_measure(struct bench_result *out, struct comm *comm, const struct bench_options *options,
                  bool *agreed);
// On rank 0 to stdout.
void bench_print(const struct bench_result *r, const struct bench_options *options, bool json);

// Collective. ARCH BATCH MICROBATCHES THREADS SECONDS JSON DEVICE NORM PRECISION, as retort-worker
// is given them.
int bench_main(struct comm *comm, char **arguments, bool *agreed);
