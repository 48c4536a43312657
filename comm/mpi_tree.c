// The deterministic sums: recursive halving with the nearest neighbour first, and back.
//
// Going up at distance d, the rank whose bit d is clear keeps and sums the first half of what it
// still has, its neighbour the second, so that each ends with the sum of its own range
// (comm_own_range); coming down they swap what they have. What two ranks swap travels in pieces: a
// window of messages is posted, and what comes is added piece by piece, so that adding one hides
// the transfer of the next. Which elements travel together changes no sum: an all-reduce takes its
// vector in parts that stay in a cache, up and down each, and a reduce-scatter takes it whole.

#include <stdlib.h>

#include "base/error.h"
#include "comm/mpi_comm.h"

// Of a vector, what a tree goes up or down with.
struct vector {
    struct mpi_comm *m;
    char *data;
    size_t count;
    enum real_type type;
};

struct span {
    char *data;
    size_t count;
};

// Two ranks that swap: what comes (to be added, or to be stored) and what goes.
struct meeting {
    struct mpi_comm *m;
    int peer;
    struct span in, out;
    size_t piece; // elements of a message, but perhaps the last
    enum real_type type;
};

MPI_Datatype mpi_real(enum real_type type)
{
    return type == REAL_F64 ? MPI_DOUBLE : MPI_FLOAT;
}

int tree_window_init(struct tree_window *w, int size)
{
    w->staging = size > 1 ? malloc((size_t)TREE_WINDOW * COMM_BUCKET_BYTES) : NULL;
    if (size > 1 && !w->staging)
        return FAIL(RETORT_MEMORY, "no memory for the all-reduce's staging");
    return RETORT_OK;
}

void tree_window_free(struct tree_window *w)
{
    free(w->staging);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct span span_of(const struct vector *v, struct tree_range range)
{
    return (struct span){v->data + range.begin * real_bytes(v->type), range.end - range.begin};
}

// The i-th piece of a window that begins at element `done` of the span; past its end there is none.
static struct span piece_of(const struct meeting *w, struct span whole, size_t done, int i)
{
    const size_t begin = smaller(done + w->piece * (size_t)i, whole.count);
    return (struct span){whole.data + begin * real_bytes(w->type),
                         smaller(whole.count - begin, w->piece)};
}

static struct span staged(const struct meeting *w, size_t done, int i)
{
    return (struct span){w->m->window.staging + (size_t)i * COMM_BUCKET_BYTES,
                         piece_of(w, w->in, done, i).count};
}

// Posts the i-th pair of messages; one of nothing is not sent.
static int post(const struct meeting *w, int i, struct span in, struct span out)
{
    MPI_Request *requests = w->m->window.requests[i];
    requests[0] = requests[1] = MPI_REQUEST_NULL;
    if (in.count > 0)
        TRY_MPI(MPI_Irecv(in.data, (int)in.count, mpi_real(w->type), w->peer, TAG_TREE, w->m->world,
                          &requests[0]));
    if (out.count > 0)
        TRY_MPI(MPI_Isend(out.data, (int)out.count, mpi_real(w->type), w->peer, TAG_TREE,
                          w->m->world, &requests[1]));
    return RETORT_OK;
}

// The analyzer pairs requests with waits within one function only: hence the NOLINTs.
static int wait_for(const struct meeting *w, int first, int pairs)
{
    // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker)
    TRY_MPI(MPI_Waitall(2 * pairs, w->m->window.requests[first], MPI_STATUSES_IGNORE));
    return RETORT_OK;
}

static int add_window(const struct meeting *w, size_t done)
{
    int rc = RETORT_OK;
    for (int i = 0; i < TREE_WINDOW; i++)
        TRY(post(w, i, staged(w, done, i), piece_of(w, w->out, done, i)));
    for (int i = 0; i < TREE_WINDOW; i++) {
        TRY(wait_for(w, i, 1));
        const struct span kept = piece_of(w, w->in, done, i);
        tree_add(kept.data, staged(w, done, i).data, kept.count, w->type);
    }
fail:
    return rc;
}

static int store_window(const struct meeting *w, size_t done)
{
    int rc = RETORT_OK;
    for (int i = 0; i < TREE_WINDOW; i++)
        TRY(post(w, i, piece_of(w, w->in, done, i), piece_of(w, w->out, done, i)));
    TRY(wait_for(w, 0, TREE_WINDOW));
fail:
    return rc;
}

// The messages of a vector that fits into a window are as many as its buckets, at every level; both
// ranks see the same larger half.
static size_t piece_size(const struct vector *v, struct span a, struct span b)
{
    const size_t bucket = COMM_BUCKET_BYTES / real_bytes(v->type), vectors = 16;
    const size_t buckets = (v->count + bucket - 1) / bucket;
    const size_t messages = smaller(buckets > 0 ? buckets : 1, TREE_WINDOW);
    const size_t larger = a.count > b.count ? a.count : b.count;
    const size_t piece = (larger + messages - 1) / messages;
    return smaller((piece + vectors - 1) / vectors * vectors, bucket);
}

static int meet(const struct vector *v, int peer, struct span in, struct span out,
                int (*window)(const struct meeting *w, size_t done))
{
    const struct meeting w = {v->m, peer, in, out, piece_size(v, in, out), v->type};
    int rc = RETORT_OK;
    for (size_t done = 0; done < in.count || done < out.count; done += w.piece * TREE_WINDOW)
        TRY(window(&w, done));
fail:
    return rc;
}

// Ranks past the largest power of two hand everything to their stand-in, rank - 2^k, …
static int go_up(const struct vector *v)
{
    const int rank = v->m->base.rank, size = v->m->base.size, ranks = tree_ranks(size);
    const struct span all = {v->data, v->count}, none = {v->data, 0};
    int rc = RETORT_OK;
    if (rank >= ranks)
        return meet(v, rank - ranks, none, all, add_window);
    if (rank + ranks < size)
        TRY(meet(v, rank + ranks, all, none, add_window));
    for (int distance = 1; distance < ranks; distance *= 2) {
        const struct tree_halves h = tree_halves_at(v->count, rank, distance);
        TRY(meet(v, rank ^ distance, span_of(v, h.kept), span_of(v, h.given), add_window));
    }
fail:
    return rc;
}

// … and get the whole from it.
static int go_down(const struct vector *v)
{
    const int rank = v->m->base.rank, size = v->m->base.size, ranks = tree_ranks(size);
    const struct span all = {v->data, v->count}, none = {v->data, 0};
    int rc = RETORT_OK;
    if (rank >= ranks)
        return meet(v, rank - ranks, all, none, store_window);
    for (int distance = ranks / 2; distance > 0; distance /= 2) {
        const struct tree_halves h = tree_halves_at(v->count, rank, distance);
        TRY(meet(v, rank ^ distance, span_of(v, h.given), span_of(v, h.kept), store_window));
    }
    if (rank + ranks < size)
        TRY(meet(v, rank + ranks, none, all, store_window));
fail:
    return rc;
}

static struct vector vector_of(struct comm *c, void *data, size_t count, enum real_type type)
{
    return (struct vector){(struct mpi_comm *)c, data, count, type};
}

int mpi_tree_reduce_scatter(struct comm *c, void *data, size_t count, enum real_type type)
{
    const struct vector v = vector_of(c, data, count, type);
    return go_up(&v);
}

int mpi_tree_allgather(struct comm *c, void *data, size_t count, enum real_type type)
{
    const struct vector v = vector_of(c, data, count, type);
    return go_down(&v);
}

int mpi_tree_allreduce(struct comm *c, void *data, size_t count, enum real_type type)
{
    const size_t most = COMM_BUCKET_BYTES / real_bytes(type) * TREE_WINDOW;
    int rc = RETORT_OK;
    for (size_t done = 0; done < count && c->size > 1; done += most) {
        const struct vector v =
            vector_of(c, (char *)data + done * real_bytes(type), smaller(count - done, most), type);
        TRY(go_up(&v));
        TRY(go_down(&v));
    }
fail:
    return rc; // NOLINT(clang-analyzer-optin.mpi.MPI-Checker): on a failure all ranks end
}
