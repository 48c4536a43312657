// The deterministic sum between GPUs: the tree of comm/mpi_tree.c, so the same bits.
//
// Going up at distance 1, 2, 4, … a rank gives one half of what it still has, gets the neighbour's
// share of the other, and adds it; so it ends with the sum of its own range (comm_own_range). Going
// down, neighbours swap what they have. Which elements travel together changes no sum: here
// ranges are whole, and only what is to be added passes through staging memory, in pieces. Sums on
// several streams share it: NCCL lets a message wait for the one before, whatever its stream, and
// behind a sum's last addition comes a message. (A reduce-scatter ends with one: nothing else runs
// beside that.)

#include "base/error.h"
#include "comm/nccl/nccl_comm.h"

struct span {
    char *data;
    size_t count;
};

struct level {
    struct span kept, given;
    int neighbour;
};

// The `most` elements, or what is left of them, that begin at element `done`.
static struct span piece(struct span whole, size_t done, size_t most, enum real_type type)
{
    const size_t rest = whole.count > done ? whole.count - done : 0;
    return (struct span){whole.data + done * real_bytes(type), rest < most ? rest : most};
}

static struct span span_of(char *data, struct tree_range range, enum real_type type)
{
    return (struct span){data + range.begin * real_bytes(type), range.end - range.begin};
}

// Sends one span and receives the other; neither may be a message of nothing.
static int swap(const struct nccl_comm *n, struct span out, struct span in, int peer,
                enum real_type type, cudaStream_t stream)
{
    int rc = RETORT_OK;
    TRY(nccl_group_begin(n));
    if (out.count > 0)
        TRY_NCCL(n, ncclSend(out.data, out.count, nccl_real(type), peer, n->nccl, stream));
    if (in.count > 0)
        TRY_NCCL(n, ncclRecv(in.data, in.count, nccl_real(type), peer, n->nccl, stream));
    TRY(nccl_group_end(n));
fail:
    return rc;
}

// Gives one span to a peer and adds to the other what comes for it.
static int give_and_add(const struct nccl_comm *n, struct span given, struct span kept, int peer,
                        enum real_type type, cudaStream_t stream)
{
    const size_t most = n->needs.staging_bytes / real_bytes(type);
    int rc = RETORT_OK;
    for (size_t done = 0; done < given.count || done < kept.count; done += most) {
        const struct span to = piece(kept, done, most, type);
        const struct span staged = {n->staging, to.count};
        TRY(swap(n, piece(given, done, most, type), staged, peer, type, stream));
        if (to.count > 0)
            TRY(n->needs.add(n->needs.context, to.data, staged.data, to.count, type, stream));
    }
fail:
    return rc;
}

// What this rank keeps of `data` when it meets its neighbour at `distance`, and what it gives.
static struct level level_at(const struct nccl_comm *n, char *data, size_t count, int distance,
                             enum real_type type)
{
    const int rank = n->base.comm->rank;
    const struct tree_halves h = tree_halves_at(count, rank, distance);
    return (struct level){.kept = span_of(data, h.kept, type),
                          .given = span_of(data, h.given, type),
                          .neighbour = rank ^ distance};
}

int nccl_tree_up(const struct nccl_comm *n, char *data, size_t count, enum real_type type,
                 cudaStream_t stream)
{
    const int rank = n->base.comm->rank, size = n->base.comm->size, ranks = tree_ranks(size);
    const struct span all = {data, count}, none = {data, 0};
    int rc = RETORT_OK;
    if (rank >= ranks) // its stand-in adds for it
        return give_and_add(n, all, none, rank - ranks, type, stream);
    if (rank + ranks < size)
        TRY(give_and_add(n, none, all, rank + ranks, type, stream));
    for (int distance = 1; distance < ranks; distance *= 2) {
        const struct level l = level_at(n, data, count, distance, type);
        TRY(give_and_add(n, l.given, l.kept, l.neighbour, type, stream));
    }
fail:
    return rc;
}

int nccl_tree_down(const struct nccl_comm *n, char *data, size_t count, enum real_type type,
                   cudaStream_t stream)
{
    const int rank = n->base.comm->rank, size = n->base.comm->size, ranks = tree_ranks(size);
    const struct span all = {data, count}, none = {data, 0};
    int rc = RETORT_OK;
    if (rank >= ranks)
        return swap(n, none, all, rank - ranks, type, stream);
    for (int distance = ranks / 2; distance > 0; distance /= 2) {
        const struct level l = level_at(n, data, count, distance, type);
        TRY(swap(n, l.kept, l.given, l.neighbour, type, stream));
    }
    if (rank + ranks < size)
        TRY(swap(n, all, none, rank + ranks, type, stream));
fail:
    return rc;
}
