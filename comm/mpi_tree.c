// The deterministic all-reduce: recursive halving with the nearest neighbour first, and back.
//
// Going up at distance d, the rank whose bit d is clear keeps and sums the first half of what it
// still has of a bucket, its neighbour the second; coming down they swap the sums. A level posts
// the messages of a window of buckets and then adds them one after the other, so that adding one
// hides the transfer of the next, and ranks wait for each other once a level and window. Which
// elements share a bucket changes no sum.

#include <stdlib.h>

#include "base/error.h"
#include "comm/mpi_comm.h"

// One all-reduce's window: `buckets` consecutive buckets of `data`, all full but perhaps the last.
struct pass {
    struct mpi_comm *m;
    char *data;
    size_t count; // elements in the window
    int buckets;
    enum real_type type;
};

struct span {
    char *data;
    size_t count;
};

struct halves {
    struct span kept, given;
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

static char *staging_of(const struct pass *p, int bucket)
{
    return p->m->window.staging + (size_t)bucket * COMM_BUCKET_BYTES;
}

static struct span bucket_span(const struct pass *p, int bucket)
{
    const size_t most = COMM_BUCKET_BYTES / real_bytes(p->type), first = most * (size_t)bucket;
    const size_t rest = p->count - first;
    return (struct span){p->data + first * real_bytes(p->type), rest < most ? rest : most};
}

// Cuts a span in two; the first half is the larger one.
static struct halves halve(struct span whole, enum real_type type, bool upper)
{
    const size_t first = whole.count - whole.count / 2;
    const struct span low = {whole.data, first};
    const struct span high = {whole.data + first * real_bytes(type), whole.count / 2};
    return upper ? (struct halves){high, low} : (struct halves){low, high};
}

// What this rank keeps of a bucket after meeting its neighbour at `distance`, and what it gives.
static struct halves bucket_halves(const struct pass *p, int bucket, int distance)
{
    const int rank = p->m->base.rank;
    struct span whole = bucket_span(p, bucket);
    for (int d = 1; d < distance; d *= 2)
        whole = halve(whole, p->type, (rank & d) != 0).kept;
    return halve(whole, p->type, (rank & distance) != 0);
}

static int post_receive(const struct pass *p, int bucket, void *in, size_t count, int from)
{
    TRY_MPI(MPI_Irecv(in, (int)count, mpi_real(p->type), from, TAG_TREE, p->m->world,
                      &p->m->window.requests[bucket][0]));
    return RETORT_OK;
}

static int post_send(const struct pass *p, int bucket, struct span out, int to)
{
    TRY_MPI(MPI_Isend(out.data, (int)out.count, mpi_real(p->type), to, TAG_TREE, p->m->world,
                      &p->m->window.requests[bucket][1]));
    return RETORT_OK;
}

// The analyzer pairs requests with waits within one function only: hence the NOLINTs.
static int wait_bucket(const struct pass *p, int bucket)
{
    // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker)
    TRY_MPI(MPI_Waitall(2, p->m->window.requests[bucket], MPI_STATUSES_IGNORE));
    return RETORT_OK;
}

static int wait_all(const struct pass *p)
{
    // NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker)
    TRY_MPI(MPI_Waitall(2 * p->buckets, p->m->window.requests[0], MPI_STATUSES_IGNORE));
    return RETORT_OK;
}

// Gives half and adds what comes for the other half.
static int level_up(const struct pass *p, int distance)
{
    const int neighbour = p->m->base.rank ^ distance;
    int rc = RETORT_OK;
    for (int b = 0; b < p->buckets; b++) {
        const struct halves h = bucket_halves(p, b, distance);
        TRY(post_receive(p, b, staging_of(p, b), h.kept.count, neighbour));
        TRY(post_send(p, b, h.given, neighbour));
    }
    for (int b = 0; b < p->buckets; b++) {
        const struct halves h = bucket_halves(p, b, distance);
        TRY(wait_bucket(p, b));
        tree_add(h.kept.data, staging_of(p, b), h.kept.count, p->type);
    }
fail:
    return rc;
}

static int level_down(const struct pass *p, int distance)
{
    const int neighbour = p->m->base.rank ^ distance;
    int rc = RETORT_OK;
    for (int b = 0; b < p->buckets; b++) {
        const struct halves h = bucket_halves(p, b, distance);
        TRY(post_receive(p, b, h.given.data, h.given.count, neighbour));
        TRY(post_send(p, b, h.kept, neighbour));
    }
    TRY(wait_all(p));
fail:
    return rc;
}

// Ranks past the largest power of two hand everything to their stand-in, rank - 2^k, …
static int hand_over(const struct pass *p, int to)
{
    int rc = RETORT_OK;
    for (int b = 0; b < p->buckets; b++) {
        p->m->window.requests[b][0] = MPI_REQUEST_NULL;
        TRY(post_send(p, b, bucket_span(p, b), to));
    }
    TRY(wait_all(p));
fail:
    return rc;
}

// … and get the sum from it.
static int take_back(const struct pass *p, int from)
{
    int rc = RETORT_OK;
    for (int b = 0; b < p->buckets; b++) {
        struct span all = bucket_span(p, b);
        p->m->window.requests[b][1] = MPI_REQUEST_NULL;
        TRY(post_receive(p, b, all.data, all.count, from));
    }
    TRY(wait_all(p));
fail:
    return rc;
}

static int add_from(const struct pass *p, int from)
{
    int rc = RETORT_OK;
    for (int b = 0; b < p->buckets; b++) {
        p->m->window.requests[b][1] = MPI_REQUEST_NULL;
        TRY(post_receive(p, b, staging_of(p, b), bucket_span(p, b).count, from));
    }
    for (int b = 0; b < p->buckets; b++) {
        struct span all = bucket_span(p, b);
        TRY(wait_bucket(p, b));
        tree_add(all.data, staging_of(p, b), all.count, p->type);
    }
fail:
    return rc;
}

static int run_pass(const struct pass *p)
{
    const int rank = p->m->base.rank, size = p->m->base.size, ranks = tree_ranks(size);
    int rc = RETORT_OK;
    if (rank >= ranks) {
        TRY(hand_over(p, rank - ranks));
        return take_back(p, rank - ranks);
    }
    const bool stands_in = rank + ranks < size;
    if (stands_in)
        TRY(add_from(p, rank + ranks));
    for (int distance = 1; distance < ranks; distance *= 2)
        TRY(level_up(p, distance));
    for (int distance = ranks / 2; distance > 0; distance /= 2)
        TRY(level_down(p, distance));
    if (stands_in)
        TRY(hand_over(p, rank + ranks));
fail:
    return rc;
}

int mpi_tree_allreduce(struct comm *c, void *data, size_t count, enum real_type type)
{
    const size_t bucket = COMM_BUCKET_BYTES / real_bytes(type), most = bucket * TREE_WINDOW;
    for (size_t done = 0; done < count && c->size > 1; done += most) {
        struct pass p = {.m = (struct mpi_comm *)c,
                         .data = (char *)data + done * real_bytes(type),
                         .count = count - done < most ? count - done : most,
                         .type = type};
        p.buckets = (int)((p.count + bucket - 1) / bucket);
        int rc = run_pass(&p);
        if (rc != RETORT_OK)
            return rc; // NOLINT(clang-analyzer-optin.mpi.MPI-Checker): all ranks end now
    }
    return RETORT_OK;
}
