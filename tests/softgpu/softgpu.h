#pragma once
// What a test may ask of the software GPU. Everything here has an environment variable too, for
// programs that are started as they are; it is read before main and by softgpu_reset.
//
//   SOFTGPU_POLICY   eager | lazy | random:SEED      when queued work runs
//   SOFTGPU_ORDER    forward | reverse | shuffle:SEED  in which order threads and blocks run
//   SOFTGPU_MEMORY   bytes of device memory (default 2 GiB)
//   SOFTGPU_DEVICES  number of devices (default 1); all are the same memory
//   SOFTGPU_RACES    0: do not look for races (default 1)
//   SOFTGPU_NCCL     busy | hang:NTH | fail:NTH | slow:NTH:MS  how this rank errs, see below
//   SOFTGPU_TRACE    1: a line on standard error for each operation that has run
//   SOFTGPU_INJECT   CALL:NTH:CODE, comma separated: the NTH call of CALL (from 1) returns CODE;
//                    CALL:NTH:CODE@RANK: only in the process that mpirun gave that rank
//
// Misuse (a race, an access out of bounds, a host access to device memory, …) prints one line and
// ends the process with SOFTGPU_EXIT, so that no test passes over it.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SOFTGPU_EXIT = 86 };

enum softgpu_policy {
    SOFTGPU_EAGER,  // at once, in the call that queues it
    SOFTGPU_LAZY,   // only what a synchronisation needs, when it is needed
    SOFTGPU_RANDOM, // each stream ahead or behind, by seed
};
void softgpu_set_policy(enum softgpu_policy policy, uint64_t seed);

enum softgpu_order { SOFTGPU_FORWARD, SOFTGPU_REVERSE, SOFTGPU_SHUFFLED };
void softgpu_set_order(enum softgpu_order order, uint64_t seed);

void softgpu_set_memory(size_t bytes);
void softgpu_set_races(bool on);
// The nth call (from 1, counted from now) of `call` ("cudaMalloc") returns `code` and does nothing.
void softgpu_inject(const char *call, int nth, int code);

// How this rank's NCCL operations go wrong, from its nth (from 1) on: it never takes part any more
// (hang); it does not either, has an asynchronous error, and the others see ncclRemoteError (fail);
// or it takes part `ms` late, once (slow). Not wrong, but rare: on a communicator that does not
// block, calls return ncclInProgress, and others are refused until that has been asked about
// (busy).
enum softgpu_misbehaviour {
    SOFTGPU_BEHAVES,
    SOFTGPU_HANGS,
    SOFTGPU_FAILS,
    SOFTGPU_SLOW,
    SOFTGPU_BUSY,
};
void softgpu_nccl_misbehave(enum softgpu_misbehaviour kind, int nth, int ms);

// keep: misuse does not end the process but is kept here and becomes a sticky CUDA error, as on
// hardware. softgpu_fault is the first one's line since then, "" when there was none.
void softgpu_keep_faults(bool keep);
const char *softgpu_fault(void);

// Waits for nothing, frees all memory, forgets errors, faults and injections, and reads the
// environment again. Streams and events stay valid, and are idle.
void softgpu_reset(void);

// Bytes of device memory held by allocations now.
size_t softgpu_allocated(void);
// Kernels run so far (a graph's count each time it is launched).
uint64_t softgpu_kernels_run(void);

#ifdef __cplusplus
}
#endif
