#pragma once
// What a transport supplies: one table of functions behind comm.h. Inside comm/ only.
//
// comm.c checks the arguments, tells the watchdog and calls the table; a transport prints its own
// failure and returns RETORT_RANK, upon which comm.c ends all ranks. A transport's own struct has
// struct comm as its first member.

#include "comm/comm.h"
#include "comm/device.h"

enum {
    COMM_HOST_CAPACITY = 256,
    COMM_BUCKET_BYTES = 1 << 20, // of the deterministic sums: stays in a core's cache
    COMM_PIECE_BYTES = 16 << 20, // larger blocks travel in pieces, so that a count fits MPI's int
};

// The one exchange that may be in flight; it lives in struct comm, so starting one frees nothing.
struct comm_request {
    bool active;
    bool beside;  // the device's, beside its stream
    size_t bytes; // sent and received by this rank
};

struct exchange_block {
    const size_t *counts, *offsets; // [size], in bytes; borrowed for the call
};

struct comm_ops {
    void (*destroy)(struct comm *c);
    // Ends every rank; does not return.
    void (*abort)(struct comm *c, int code);
    int (*allreduce_max)(struct comm *c, int *value);
    int (*barrier)(struct comm *c);
    int (*broadcast)(struct comm *c, void *data, size_t bytes, int root);
    int (*allgather)(struct comm *c, const void *mine, size_t bytes, void *all);
    int (*gatherv)(struct comm *c, const void *mine, size_t bytes, void *all, const size_t *counts,
                   const size_t *offsets, int root);
    int (*allreduce_sum)(struct comm *c, void *data, size_t count, enum real_type type);
    int (*allreduce_tree)(struct comm *c, void *data, size_t count, enum real_type type);
    int (*reduce_scatter_sum)(struct comm *c, void *data, size_t count, enum real_type type);
    int (*reduce_scatter_tree)(struct comm *c, void *data, size_t count, enum real_type type);
    int (*allgather_ranges)(struct comm *c, void *data, size_t count, enum real_type type,
                            bool deterministic);
    int (*exchange_start)(struct comm *c, const void *send, struct exchange_block to, void *recv,
                          struct exchange_block from);
    int (*exchange_test)(struct comm *c, bool *done);
    int (*exchange_wait)(struct comm *c);
};

// What a device supplies for calls on the engine's memory. Each queues its work on `stream`, prints
// its own failure and returns a code, upon which all ranks are ended. One rank alone is possible.
struct device_ops {
    void (*destroy)(struct device_comm *d);
    int (*allreduce)(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic);
    // After what is queued on `stream`, and beside what comes later; `join`: before that. NULL
    // where nothing can run beside the stream.
    int (*allreduce_beside)(struct device_comm *d, void *data, size_t count, enum real_type type,
                            bool deterministic);
    int (*join)(struct device_comm *d);
    int (*reduce_scatter)(struct device_comm *d, void *data, size_t count, enum real_type type,
                          bool deterministic);
    int (*allgather)(struct device_comm *d, void *data, size_t count, enum real_type type,
                     bool deterministic);
    int (*broadcast)(struct device_comm *d, void *data, size_t bytes, int root);
    // Likewise, with a `join` of its own.
    int (*exchange_start)(struct device_comm *d, const void *send, struct exchange_block to,
                          void *recv, struct exchange_block from);
    int (*exchange_join)(struct device_comm *d);
    int (*wait)(struct device_comm *d);
};

enum { COMM_NAME_CAPACITY = 24, COMM_DESCRIPTION_CAPACITY = 96 };

struct device_comm {
    const struct device_ops *ops;
    struct comm *comm;          // borrowed: the ranks, and the way between hosts
    struct CUstream_st *stream; // borrowed: where work is queued
    bool capturable;
    char description[COMM_DESCRIPTION_CAPACITY];
    char last[COMM_NAME_CAPACITY]; // what was queued last: what a wait is likely to wait for
    size_t last_bytes;
};

struct comm {
    const struct comm_ops *ops;
    int rank, size, local_rank, local_size;
    char host[COMM_HOST_CAPACITY];
    struct watchdog *watchdog; // borrowed, may be NULL
    struct comm_request request;
    struct device_comm *device; // borrowed, may be NULL
};

// Ends a collective, all ranks too when `rc`, the transport's code, is not RETORT_OK; returns it.
int comm_leave(struct comm *c, int rc);

// Copies this rank's block to itself, the part of an exchange that needs no transport.
void exchange_copy_own(int rank, const void *send, struct exchange_block to, void *recv,
                       struct exchange_block from);

// sum[i] += other[i]
void tree_add(void *sum, const void *other, size_t count, enum real_type type);
// The largest power of two that is at most `size`.
int tree_ranks(int size);

struct tree_range {
    size_t begin, end;
};
struct tree_halves {
    struct tree_range kept, given;
};
// What `rank` still has of `count` elements when it meets its neighbour at `distance`, cut in two:
// the half that it keeps the sum of, and the one that it gives. The first half is the larger one,
// and a whole number of 16 bytes. At distance 0 it keeps all.
struct tree_halves tree_halves_at(size_t count, int rank, int distance);
