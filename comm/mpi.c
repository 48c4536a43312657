// Ranks under MPI. MPI_ERRORS_RETURN is set right after initialising, so that a failure prints its
// one line here; Open MPI waits busily, and yields when ranks outnumber cores.

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/carried_mpi.h"
#include "comm/mpi_comm.h"

int mpi_failed(int code, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return FAIL(RETORT_RANK, "%.*s failed: %s", (int)strcspn(call, "("), call, text);
}

static struct mpi_comm *of(struct comm *c)
{
    return (struct mpi_comm *)c;
}

// The bytes of the piece that starts at `done` of `bytes`; always within an int.
static int piece_bytes(size_t bytes, size_t done)
{
    size_t rest = bytes - done;
    return (int)(rest < COMM_PIECE_BYTES ? rest : COMM_PIECE_BYTES);
}

static size_t piece_count(size_t bytes)
{
    return bytes / COMM_PIECE_BYTES + (bytes % COMM_PIECE_BYTES != 0);
}

static int mpi_allreduce_max(struct comm *c, int *value)
{
    TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_INT, MPI_MAX, of(c)->world));
    return RETORT_OK;
}

static int mpi_barrier(struct comm *c)
{
    TRY_MPI(MPI_Barrier(of(c)->world));
    return RETORT_OK;
}

static int mpi_broadcast(struct comm *c, void *data, size_t bytes, int root)
{
    for (size_t done = 0; done < bytes; done += COMM_PIECE_BYTES)
        TRY_MPI(
            MPI_Bcast((char *)data + done, piece_bytes(bytes, done), MPI_BYTE, root, of(c)->world));
    return RETORT_OK;
}

static int mpi_allgather(struct comm *c, const void *mine, size_t bytes, void *all)
{
    if (bytes <= COMM_PIECE_BYTES) {
        int count = (int)bytes;
        TRY_MPI(MPI_Allgather(mine, count, MPI_BYTE, all, count, MPI_BYTE, of(c)->world));
        return RETORT_OK;
    }
    memcpy((char *)all + bytes * (size_t)c->rank, mine, bytes);
    for (int r = 0; r < c->size; r++) {
        int rc = mpi_broadcast(c, (char *)all + bytes * (size_t)r, bytes, r);
        if (rc != RETORT_OK)
            return rc;
    }
    return RETORT_OK;
}

static int receive_piece(struct mpi_comm *m, char *out, int wanted, int from)
{
    MPI_Status status;
    int got = 0;
    TRY_MPI(MPI_Recv(out, wanted, MPI_BYTE, from, TAG_GATHER, m->world, &status));
    TRY_MPI(MPI_Get_count(&status, MPI_BYTE, &got));
    if (got != wanted)
        return FAIL(RETORT_RANK, "gather expected %d bytes of rank %d and got %d", wanted, from,
                    got);
    return RETORT_OK;
}

static int gather_receive(struct mpi_comm *m, char *out, size_t bytes, int from)
{
    int rc = RETORT_OK;
    for (size_t done = 0; rc == RETORT_OK && done < bytes; done += COMM_PIECE_BYTES)
        rc = receive_piece(m, out + done, piece_bytes(bytes, done), from);
    return rc;
}

static int mpi_gatherv(struct comm *c, const void *mine, size_t bytes, void *all,
                       const size_t *counts, const size_t *offsets, int root)
{
    struct mpi_comm *m = of(c);
    if (c->rank != root) {
        for (size_t done = 0; done < bytes; done += COMM_PIECE_BYTES)
            TRY_MPI(MPI_Send((const char *)mine + done, piece_bytes(bytes, done), MPI_BYTE, root,
                             TAG_GATHER, m->world));
        return RETORT_OK;
    }
    for (int r = 0; r < c->size; r++) {
        if (r == root && bytes > 0)
            memmove((char *)all + offsets[r], mine, bytes);
        int rc = r == root ? RETORT_OK : gather_receive(m, (char *)all + offsets[r], counts[r], r);
        if (rc != RETORT_OK)
            return rc;
    }
    return RETORT_OK;
}

static int mpi_allreduce_sum(struct comm *c, void *data, size_t count, enum real_type type)
{
    const size_t most = COMM_PIECE_BYTES;
    for (size_t done = 0; done < count; done += most) {
        size_t part = count - done < most ? count - done : most;
        TRY_MPI(MPI_Allreduce(MPI_IN_PLACE, (char *)data + done * real_bytes(type), (int)part,
                              mpi_real(type), MPI_SUM, of(c)->world));
    }
    return RETORT_OK;
}

// Makes room for `count` requests; the array is kept, so that later exchanges allocate nothing.
static int reserve_requests(struct mpi_comm *m, size_t count)
{
    if (count > INT_MAX)
        return FAIL(RETORT_RANK, "an exchange of %zu messages is more than MPI can count", count);
    if (count <= m->request_capacity)
        return RETORT_OK;
    MPI_Request *grown = realloc(m->requests, count * sizeof(MPI_Request));
    if (!grown)
        return FAIL(RETORT_MEMORY, "no memory for an exchange of %zu messages", count);
    m->requests = grown;
    m->request_capacity = count;
    return RETORT_OK;
}

static int post_receives(struct mpi_comm *m, char *recv, size_t bytes, int peer)
{
    for (size_t done = 0; done < bytes; done += COMM_PIECE_BYTES)
        TRY_MPI(MPI_Irecv(recv + done, piece_bytes(bytes, done), MPI_BYTE, peer, TAG_EXCHANGE,
                          m->background, &m->requests[m->request_count++]));
    return RETORT_OK;
}

static int post_sends(struct mpi_comm *m, const char *send, size_t bytes, int peer)
{
    for (size_t done = 0; done < bytes; done += COMM_PIECE_BYTES)
        TRY_MPI(MPI_Isend(send + done, piece_bytes(bytes, done), MPI_BYTE, peer, TAG_EXCHANGE,
                          m->background, &m->requests[m->request_count++]));
    return RETORT_OK;
}

// Receives first, then sends; each rank begins with its right-hand neighbour, so that not all of
// them send to rank 0 at once.
static int mpi_exchange_start(struct comm *c, const void *send, struct exchange_block to,
                              void *recv, struct exchange_block from)
{
    struct mpi_comm *m = of(c);
    size_t messages = 0;
    for (int r = 0; r < c->size; r++)
        messages += piece_count(to.counts[r]) + piece_count(from.counts[r]);
    m->request_count = 0;
    int rc = RETORT_OK;
    TRY(reserve_requests(m, messages));
    for (int i = 1; i < c->size; i++) {
        int peer = (c->rank + c->size - i) % c->size;
        TRY(post_receives(m, (char *)recv + from.offsets[peer], from.counts[peer], peer));
    }
    for (int i = 1; i < c->size; i++) {
        int peer = (c->rank + i) % c->size;
        TRY(post_sends(m, (const char *)send + to.offsets[peer], to.counts[peer], peer));
    }
    exchange_copy_own(c->rank, send, to, recv, from);
fail:
    return rc;
}

static int mpi_exchange_test(struct comm *c, bool *done)
{
    int all = 0;
    TRY_MPI(MPI_Testall(of(c)->request_count, of(c)->requests, &all, MPI_STATUSES_IGNORE));
    *done = all != 0;
    return RETORT_OK;
}

static int mpi_exchange_wait(struct comm *c)
{
    TRY_MPI(MPI_Waitall(of(c)->request_count, of(c)->requests, MPI_STATUSES_IGNORE));
    return RETORT_OK;
}

static void mpi_destroy(struct comm *c)
{
    struct mpi_comm *m = of(c);
    if (m->background != MPI_COMM_NULL)
        MPI_Comm_free(&m->background);
    if (m->world != MPI_COMM_NULL)
        MPI_Comm_free(&m->world);
    MPI_Finalize();
    free(m->requests);
    free(m->part_counts);
    free(m->part_offsets);
    tree_window_free(&m->window);
    free(m);
}

static void mpi_abort(struct comm *c, int code)
{
    (void)c;
    MPI_Abort(MPI_COMM_WORLD, code);
}

static const struct comm_ops mpi_ops = {
    .destroy = mpi_destroy,
    .abort = mpi_abort,
    .allreduce_max = mpi_allreduce_max,
    .barrier = mpi_barrier,
    .broadcast = mpi_broadcast,
    .allgather = mpi_allgather,
    .gatherv = mpi_gatherv,
    .allreduce_sum = mpi_allreduce_sum,
    .allreduce_tree = mpi_tree_allreduce,
    .reduce_scatter_sum = mpi_reduce_scatter_sum,
    .reduce_scatter_tree = mpi_tree_reduce_scatter,
    .allgather_ranges = mpi_allgather_ranges,
    .exchange_start = mpi_exchange_start,
    .exchange_test = mpi_exchange_test,
    .exchange_wait = mpi_exchange_wait,
};

static int find_local_rank(struct comm *c)
{
    MPI_Comm node;
    TRY_MPI(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node));
    TRY_MPI(MPI_Comm_rank(node, &c->local_rank));
    TRY_MPI(MPI_Comm_size(node, &c->local_size));
    TRY_MPI(MPI_Comm_free(&node));
    return RETORT_OK;
}

static int find_ranks(struct mpi_comm *m)
{
    char host[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    TRY_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &m->base.rank));
    TRY_MPI(MPI_Comm_size(MPI_COMM_WORLD, &m->base.size));
    TRY_MPI(MPI_Get_processor_name(host, &length));
    host[length < MPI_MAX_PROCESSOR_NAME ? length : MPI_MAX_PROCESSOR_NAME - 1] = '\0';
    _Static_assert(MPI_MAX_PROCESSOR_NAME <= COMM_HOST_CAPACITY, "a host name must fit");
    memcpy(m->base.host, host, sizeof host);
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &m->world));
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &m->background));
    return find_local_rank(&m->base);
}

static int reserve_parts(struct mpi_comm *m)
{
    m->part_counts = calloc((size_t)m->base.size, sizeof *m->part_counts);
    m->part_offsets = calloc((size_t)m->base.size, sizeof *m->part_offsets);
    if (!m->part_counts || !m->part_offsets)
        return FAIL(RETORT_MEMORY, "no memory for the ranges of %d ranks", m->base.size);
    return RETORT_OK;
}

static int start_mpi(void)
{
    int provided = 0;
    carried_mpi_enter();
    TRY_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
    TRY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    if (provided < MPI_THREAD_FUNNELED)
        return FAIL(RETORT_RANK,
                    "this MPI library gives no threads (level %d, %d is needed); use "
                    "a build with MPI_THREAD_FUNNELED",
                    provided, MPI_THREAD_FUNNELED);
    return RETORT_OK;
}

int comm_mpi_create(struct comm **out)
{
    int rc = RETORT_OK;
    *out = NULL;
    struct mpi_comm *m = calloc(1, sizeof *m);
    TRY_ELSE(m, RETORT_MEMORY, "no memory for a communicator");
    m->base.ops = &mpi_ops;
    m->world = m->background = MPI_COMM_NULL;
    TRY(start_mpi());
    TRY(find_ranks(m)); // the duplicates inherit the error handler
    log_set_rank(m->base.rank, m->base.size, m->base.host);
    TRY(tree_window_init(&m->window, m->base.size));
    TRY(reserve_parts(m));
    *out = &m->base;
    return RETORT_OK;
fail:
    if (m) {
        free(m->part_counts);
        free(m->part_offsets);
        tree_window_free(&m->window);
    }
    free(m); // the others learn of it when this process ends
    return rc;
}
