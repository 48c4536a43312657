// The arithmetic of the fixed binary tree: where ranges split, which rank owns what, and adding.

#include "comm/comm_ops.h"

int64_t comm_tree_split(int64_t a, int64_t b)
{
    return a + (b - a + 1) / 2;
}

int tree_ranks(int size)
{
    int ranks = 1;
    while (ranks <= size / 2)
        ranks *= 2;
    return ranks;
}

// Descends from the root by the rank's bits, highest first: neighbours in rank are then siblings,
// and meet first when the sum goes up.
static void range_by_tree(int64_t total, int rank, int size, int64_t *first, int64_t *last)
{
    *first = 0;
    *last = total;
    for (int half = size / 2; half > 0; half /= 2) {
        int64_t middle = comm_tree_split(*first, *last);
        if (rank & half)
            *first = middle;
        else
            *last = middle;
    }
}

void comm_microbatch_range(int64_t total, int rank, int size, int64_t *first, int64_t *last)
{
    if (tree_ranks(size) == size) {
        range_by_tree(total, rank, size, first, last);
        return;
    }
    int64_t part = total / size, larger = total % size;
    *first = part * rank + (rank < larger ? rank : larger);
    *last = *first + part + (rank < larger);
}

static void add_f32(float *restrict sum, const float *restrict other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += other[i];
}

static void add_f64(double *restrict sum, const double *restrict other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum[i] += other[i];
}

void tree_add(void *sum, const void *other, size_t count, enum real_type type)
{
    if (type == REAL_F64)
        add_f64(sum, other, count);
    else
        add_f32(sum, other, count);
}
