#pragma once
// Ranks with a GPU each: what comm.h says of the engine's memory, when that is a GPU's.
//
// comm/nccl/ does it: by NCCL, or, where two ranks share a GPU, through pinned host memory and the
// comm's own transport. It knows CUDA, so it is no part of the program but of the plug-in that
// holds the CUDA engine. To join them:
//
//   - the plug-in is linked with target `retort_comm_nccl`, with NCCL and CUDA's runtime, and takes
//     the functions of comm/ and base/ from the program, which exports them (ENABLE_EXPORTS);
//   - the program opens it, finds DEVICE_COMM_OPEN by dlsym, and when the engine is there:
//
//       device_comm_open_function *open = …;
//       TRY(open(&device, comm, &needs));    // needs: the engine's stream and functions
//       comm_attach_device(comm, device);    // comm_allreduce_sum takes device memory now
//       …                                    // comm_wait before what waits for the stream
//       comm_attach_device(comm, NULL);
//       device_comm_destroy(&device);        // then the engine, then the comm

#include <stdbool.h>
#include <stddef.h>

#include "base/real.h"

struct comm;
struct device_comm; // opaque
struct CUstream_st; // cudaStream_t points to one

// What the collectives need of an engine. Memory is the device's.
struct device_needs {
    void *context; // the functions' first argument
    // to[i] += from[i], i < count, queued on the stream given, which may be another than the one
    // below. Returns a retort_code; it has printed why.
    int (*add)(void *context, void *to, const void *from, size_t count, enum real_type type,
               struct CUstream_st *stream);
    void *(*alloc)(void *context, size_t bytes); // NULL when there is none; it has said so
    void (*free)(void *context, void *p);
    struct CUstream_st *stream; // where collectives are queued; borrowed
    size_t staging_bytes;       // of memory on either side, the same on all ranks; 0: 32 MiB
    double timeout_s;           // of a start or wait, unless a watchdog has one; 0: none
    bool even_alone;            // one rank uses NCCL too
};

// Collective; the device is the current one of the calling thread. Chooses NCCL or host memory
// (rank 0 says so), and returns when all ranks are connected.
#define DEVICE_COMM_OPEN "device_comm_open"
typedef int device_comm_open_function(struct device_comm **out, struct comm *c,
                                      const struct device_needs *needs);
device_comm_open_function device_comm_open;

// Collective, when nothing is under way; takes NULL.
void device_comm_destroy(struct device_comm **p);
// Borrowed; NULL detaches. At one point of all ranks.
void comm_attach_device(struct comm *c, struct device_comm *d);
// "NCCL 2.28.9", or "host memory: ranks 0 and 1 share a GPU"; borrowed.
const char *device_comm_describe(const struct device_comm *d);
// Whether the collectives may be captured in a graph. Through host memory they may not: the host
// works between the copies.
bool device_comm_capturable(const struct device_comm *d);
