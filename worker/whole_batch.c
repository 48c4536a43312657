#include "worker/whole_batch.h"

#include "base/error.h"

// sums[a] = the sum over [a, b), by the tree.
static int sum_own(struct engine *e, double *const *sums, int64_t a, int64_t b, size_t count)
{
    int64_t middle = comm_tree_split(a, b);
    int rc = RETORT_OK;
    if (b - a == 1)
        return RETORT_OK;
    TRY(sum_own(e, sums, a, middle, count));
    TRY(sum_own(e, sums, middle, b, count));
    TRY(engine_add(e, sums[a], sums[middle], count, REAL_F64));
fail:
    return rc;
}

int whole_batch_sum(const struct whole_batch *w, double *const *sums, int microbatches,
                    size_t count)
{
    int rc = RETORT_OK;
    TRY(sum_own(w->engine, sums, 0, microbatches, count));
    TRY(comm_allreduce_named(w->comm, "statistics all-reduce", sums[0], count, REAL_F64,
                             w->deterministic));
fail:
    return rc;
}
