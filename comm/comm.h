#pragma once
// Ranks and collectives as a table: self (one process, no MPI) and mpi; to ranks with a GPU each, a
// device is attached (comm/device.h).
//
// Collective calls are made by every rank in the same order; counts are in elements or bytes as
// said. Memory is the host's but where the engine's is said. Inside a training step a failing peer
// cannot be talked to, so a transport's failure there prints one line and ends all ranks
// (comm_abort).

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"

struct comm;         // opaque
struct comm_request; // opaque: an exchange in flight

// A single process.
int comm_self_create(struct comm **out);
// MPI_COMM_WORLD; initialises MPI (FUNNELED, errors returned) and names this rank to the logger.
// Only in retort-worker.
int comm_mpi_create(struct comm **out);
// Collective. Takes NULL. Finalises MPI for the mpi kind.
void comm_destroy(struct comm **p);

int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);
int comm_local_rank(const struct comm *c); // rank within the node
int comm_local_size(const struct comm *c);
const char *comm_host(const struct comm *c);

// The watchdog (comm/watchdog.h) is told of every collective when one is attached; borrowed.
struct watchdog;
void comm_attach_watchdog(struct comm *c, struct watchdog *w);

// Collective. All leave with the same code: the largest of all ranks' codes (0 when all are fine).
// The rule between phases: every rank does its part, then agrees, then all go on or all leave.
int comm_agree(struct comm *c, int code);
// Collective. True when any rank says true.
bool comm_any(struct comm *c, bool value);
int comm_barrier(struct comm *c);
int comm_broadcast(struct comm *c, void *data, size_t bytes, int root);
// Collective. Every rank's `bytes` bytes, in rank order, into all[size * bytes].
int comm_allgather(struct comm *c, const void *mine, size_t bytes, void *all);
// Collective. counts[size] and offsets[size] in bytes; rank root receives, others pass NULL there.
int comm_gatherv(struct comm *c, const void *mine, size_t bytes, void *all, const size_t *counts,
                 const size_t *offsets, int root);

// Starts an all-to-all of byte blocks: send_counts/send_offsets[size] to each rank, recv_* from
// each. Buffers and counts must match between ranks; buffers belong to the request until test says
// done or wait returns. Collective. Only one exchange in flight; other collectives may pass it.
int comm_exchange_start(struct comm *c, struct comm_request **out, const void *send,
                        const size_t *send_counts, const size_t *send_offsets, void *recv,
                        const size_t *recv_counts, const size_t *recv_offsets);
// Makes progress without waiting; *done says whether it finished (then the request is freed and
// *request is NULL). Not collective, but every rank must finish its own.
int comm_exchange_test(struct comm *c, struct comm_request **request, bool *done);
int comm_exchange_wait(struct comm *c, struct comm_request **request);

// ---- on the engine's memory
//
// Gradients, weights, pictures and logits lie where the engine works, and these calls take memory
// of that kind. Without a device that is the host's, and a call is done when it returns. With one
// it is the GPU's: the call queues its work on the device's stream and returns, and comm_wait
// waits.

// Collective. data[count] becomes the sum over ranks, the same bits on every rank.
//
// `deterministic`: the fixed binary tree of the micro-batches. With 2^k ranks, neighbours at
// distance 1, then 2, then 4 … add (a + b is commutative bit for bit), by recursive halving of the
// vector so that each level moves half as much (Rabenseifner 2004 with the tree's order of
// distances), in parts of 8 MiB. Ranks past the largest power of two first add theirs to
// rank - 2^k (agrees to rounding only). Otherwise: the transport's fastest all-reduce.
//
// An empty micro-batch adds +0.0, which makes a sum of -0.0 +0.0: on any number of ranks alike.
int comm_allreduce_sum(struct comm *c, void *data, size_t count, enum real_type type,
                       bool deterministic);
// The same by a name of its own, for what the watchdog says: "statistics all-reduce of 200 B".
int comm_allreduce_named(struct comm *c, const char *name, void *data, size_t count,
                         enum real_type type, bool deterministic);

// Whether sums can run beside the device's stream: between GPUs joined by NCCL.
bool comm_overlaps(const struct comm *c);
// Collective. comm_allreduce_sum which, where comm_overlaps, comes after all that is queued on the
// device's stream, and runs beside what is queued there later, until comm_join lets what is queued
// from then on come after all such sums. Both may be captured, in one graph.
int comm_allreduce_beside(struct comm *c, void *data, size_t count, enum real_type type,
                          bool deterministic);
// After at least one of them since the last. Not collective.
int comm_join(struct comm *c);

// The part [*begin, *end) of [0, count) that `rank` owns: whose sums and weights a sharded
// optimizer keeps. Deterministic: what the tree leaves it with, halves of halves in the order of
// the bits of its number, lowest first; ranks past the largest power of two own nothing. Otherwise
// equal parts in rank order, the last one larger. Not collective.
void comm_own_range(const struct comm *c, size_t count, bool deterministic, int rank, size_t *begin,
                    size_t *end);
// Collective. The own range of data[count] becomes the sum over ranks, with the all-reduce's bits
// where deterministic; the rest of data is undefined then.
int comm_reduce_scatter_sum(struct comm *c, void *data, size_t count, enum real_type type,
                            bool deterministic);
// Collective. Every rank's own range, as it owns it of data[count], to all. A reduce-scatter and
// this make an all-reduce.
int comm_allgather_ranges(struct comm *c, void *data, size_t count, enum real_type type,
                          bool deterministic);
// Collective. comm_broadcast.
int comm_engine_broadcast(struct comm *c, void *data, size_t bytes, int root);
// Collective. comm_exchange_start on the engine's memory; send and recv do not overlap. With a
// device it comes after all that is queued on its stream, and runs beside what is queued there
// later, until comm_exchange_wait lets what is queued from then on come after it. The host waits
// for it in comm_wait alone, and comm_exchange_test always finds it under way. Collectives between
// GPUs run one after the other, whatever their streams: a long exchange is best cut in parts.
int comm_engine_exchange_start(struct comm *c, struct comm_request **out, const void *send,
                               const size_t *send_counts, const size_t *send_offsets, void *recv,
                               const size_t *recv_counts, const size_t *recv_offsets);
// Collective: waits until all that is queued on the device's stream is done, collectives and
// whatever else, and ends all ranks with one line when that fails or lasts too long. What waits
// for the stream in another way (a copy to the host) hangs when a peer does: call this before.
// Not while the stream is captured. Nothing without a device.
int comm_wait(struct comm *c);

// Whether the calls above that queue may be captured in a graph and replayed with it (not where the
// host works in between). A replay tells nobody what it queues: comm_await says, in its place, what
// the next comm_wait is likely to wait for. Neither is collective.
bool comm_capturable(const struct comm *c);
void comm_await(struct comm *c, const char *name, size_t bytes);

// The micro-batches [*first, *last) of `rank` of `size` out of `total`: the range [0, total) splits
// at a + ceil((b - a) / 2), larger parts first, to depth k for 2^k ranks; for other sizes, an even
// split. Not collective.
void comm_microbatch_range(int64_t total, int rank, int size, int64_t *first, int64_t *last);
// Where the tree splits [a, b).
int64_t comm_tree_split(int64_t a, int64_t b);

// Prints nothing; ends every rank at once with `code`.
_Noreturn void comm_abort(struct comm *c, int code);
