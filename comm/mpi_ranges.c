// Ranges that ranks own in rank order, by MPI's own collectives: the fastest it has.

#include <limits.h>
#include <string.h>

#include "base/error.h"
#include "comm/mpi_comm.h"

// Every rank's own range of data[count], as MPI counts.
static int find_parts(struct mpi_comm *m, size_t count)
{
    if (count > INT_MAX)
        return FAIL(RETORT_RANK,
                    "%zu elements are more than MPI can count; use run.deterministic=true", count);
    for (int r = 0; r < m->base.size; r++) {
        size_t begin, end;
        comm_own_range(&m->base, count, false, r, &begin, &end);
        m->part_counts[r] = (int)(end - begin);
        m->part_offsets[r] = (int)begin;
    }
    return RETORT_OK;
}

int mpi_reduce_scatter_sum(struct comm *c, void *data, size_t count, enum real_type type)
{
    struct mpi_comm *m = (struct mpi_comm *)c;
    const size_t one = real_bytes(type);
    int rc = find_parts(m, count);
    if (rc != RETORT_OK)
        return rc;
    TRY_MPI(
        MPI_Reduce_scatter(MPI_IN_PLACE, data, m->part_counts, mpi_real(type), MPI_SUM, m->world));
    // In place, MPI leaves a rank's part at the front.
    if (count > 0)
        memmove((char *)data + (size_t)m->part_offsets[c->rank] * one, data,
                (size_t)m->part_counts[c->rank] * one);
    return RETORT_OK;
}

int mpi_allgather_ranges(struct comm *c, void *data, size_t count, enum real_type type,
                         bool deterministic)
{
    struct mpi_comm *m = (struct mpi_comm *)c;
    if (deterministic)
        return mpi_tree_allgather(c, data, count, type);
    int rc = find_parts(m, count);
    if (rc != RETORT_OK)
        return rc;
    TRY_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, m->part_counts,
                           m->part_offsets, mpi_real(type), m->world));
    return RETORT_OK;
}
