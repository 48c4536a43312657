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

static size_t half_of(size_t count)
{
    const size_t whole = 4; // elements: 16 bytes of f32, what GPUs move at a time
    const size_t first = (count - count / 2 + whole - 1) / whole * whole;
    return first < count ? first : count;
}

struct tree_halves tree_halves_at(size_t count, int rank, int distance)
{
    struct tree_halves h = {.kept = {0, count}};
    for (int d = 1; d <= distance; d *= 2) {
        const size_t middle = h.kept.begin + half_of(h.kept.end - h.kept.begin);
        const struct tree_range low = {h.kept.begin, middle}, high = {middle, h.kept.end};
        h.kept = rank & d ? high : low;
        h.given = rank & d ? low : high;
    }
    return h;
}

void comm_own_range(const struct comm *c, size_t count, bool deterministic, int rank, size_t *begin,
                    size_t *end)
{
    const int ranks = tree_ranks(c->size);
    if (!deterministic) {
        const size_t part = count / (size_t)c->size / 4 * 4;
        *begin = part * (size_t)rank;
        *end = rank == c->size - 1 ? count : *begin + part;
        return;
    }
    const struct tree_range none = {count, count};
    const struct tree_range own = rank < ranks ? tree_halves_at(count, rank, ranks / 2).kept : none;
    *begin = own.begin;
    *end = own.end;
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
