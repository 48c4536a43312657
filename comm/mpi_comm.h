#pragma once
// What the files of the MPI transport share. Inside comm/ only.

#include <mpi.h>

#include "comm/comm_ops.h"

enum { TAG_TREE = 1, TAG_GATHER, TAG_EXCHANGE };

// Messages of the deterministic sums that are under way at a time, each way.
enum { TREE_WINDOW = 8 };

struct tree_window {
    char *staging; // [TREE_WINDOW][COMM_BUCKET_BYTES], owned: what a neighbour sends to be added
    MPI_Request requests[TREE_WINDOW][2]; // receives and sends
};

struct mpi_comm {
    struct comm base;
    MPI_Comm world;      // a duplicate, for collectives
    MPI_Comm background; // a duplicate, for exchanges, which other collectives overtake
    struct tree_window window;
    MPI_Request *requests; // of the exchange in flight, owned; grows, kept between exchanges
    int request_count;
    size_t request_capacity;
    int *part_counts, *part_offsets; // [size] each, owned: ranges of a sum that is not the tree's
};

// Prints the library's message; returns RETORT_RANK.
int mpi_failed(int code, const char *call);

// For functions that return a retort_code and have nothing to free.
#define TRY_MPI(call)                                                                              \
    do {                                                                                           \
        int mpi_code_ = (call);                                                                    \
        if (mpi_code_ != MPI_SUCCESS)                                                              \
            return mpi_failed(mpi_code_, #call);                                                   \
    } while (0)

MPI_Datatype mpi_real(enum real_type type);

// One rank needs no staging, and gets none.
int tree_window_init(struct tree_window *w, int size);
void tree_window_free(struct tree_window *w);
// comm_ops' allreduce_tree and reduce_scatter_tree, and the tree's way down alone.
int mpi_tree_allreduce(struct comm *c, void *data, size_t count, enum real_type type);
int mpi_tree_reduce_scatter(struct comm *c, void *data, size_t count, enum real_type type);
int mpi_tree_allgather(struct comm *c, void *data, size_t count, enum real_type type);
// comm_ops' reduce_scatter_sum and allgather_ranges.
int mpi_reduce_scatter_sum(struct comm *c, void *data, size_t count, enum real_type type);
int mpi_allgather_ranges(struct comm *c, void *data, size_t count, enum real_type type,
                         bool deterministic);
