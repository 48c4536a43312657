#include "data/sampler.h"

#include "base/error.h"
#include "base/random.h"
#include "comm/comm.h"
#include "data/dataset.h"

// Part `i` of `total` cut into `parts`, larger ones first.
static void cut(int64_t total, int64_t parts, int64_t i, int64_t *first, int64_t *last)
{
    int64_t size = total / parts, larger = total % parts;
    *first = i * size + (i < larger ? i : larger);
    *last = *first + size + (i < larger);
}

static int64_t at_most(int64_t value, int64_t limit)
{
    return value < limit ? value : limit;
}

void shard_rows(int64_t count, int rank, int size, int64_t *first, int64_t *last)
{
    CHECK(rank >= 0 && rank < size);
    cut(dataset_block_count(count), size, rank, first, last);
    *first = at_most(*first * DATASET_BLOCK, count);
    *last = at_most(*last * DATASET_BLOCK, count);
}

int64_t sampler_steps(const struct sampler *s)
{
    return (s->count + s->batch - 1) / s->batch;
}

// shuffle: shard. How many of a rank's `rows` come before `step`; exact for rows * steps < 2^63.
static int64_t rows_before(const struct sampler *s, int64_t rows, int64_t step)
{
    return rows * step / sampler_steps(s);
}

static int64_t rank_rows(const struct sampler *s, int rank)
{
    int64_t first, last;
    shard_rows(s->count, rank, s->size, &first, &last);
    return last - first;
}

int64_t sampler_step_first(const struct sampler *s, int64_t step)
{
    CHECK(step >= 0 && step <= sampler_steps(s));
    if (s->shuffle == SHUFFLE_GLOBAL)
        return at_most(step * s->batch, s->count);
    int64_t before = 0;
    for (int r = 0; r < s->size; r++)
        before += rows_before(s, rank_rows(s, r), step);
    return before;
}

int64_t sampler_step_size(const struct sampler *s, int64_t step)
{
    return sampler_step_first(s, step + 1) - sampler_step_first(s, step);
}

// The step that a position belongs to.
static int64_t step_of(const struct sampler *s, int64_t position)
{
    CHECK(position >= 0 && position < s->count);
    if (s->shuffle == SHUFFLE_GLOBAL)
        return position / s->batch;
    // Each rank rounds down by less than one row: the even guess is at most some steps too low.
    int64_t step = position / s->batch;
    while (step > 0 && sampler_step_first(s, step) > position)
        step--;
    while (sampler_step_first(s, step + 1) <= position)
        step++;
    return step;
}

static int microbatch_owner(const struct sampler *s, int64_t m)
{
    int64_t first, last;
    for (int r = 0; r < s->size; r++) {
        comm_microbatch_range(s->microbatches, r, s->size, &first, &last);
        if (m >= first && m < last)
            return r;
    }
    CHECK(!"a micro-batch has an owner");
    return -1;
}

// shuffle: shard. Positions of a rank's rows of a step.
static void shard_share(const struct sampler *s, int64_t step, int rank, int64_t *first,
                        int64_t *last)
{
    *first = sampler_step_first(s, step);
    for (int r = 0;; r++) {
        int64_t rows = rank_rows(s, r);
        *last = *first + rows_before(s, rows, step + 1) - rows_before(s, rows, step);
        if (r == rank)
            return;
        *first = *last;
    }
}

void sampler_microbatch(const struct sampler *s, int64_t step, int64_t m, int64_t *first,
                        int64_t *last)
{
    CHECK(m >= 0 && m < s->microbatches);
    int64_t base = sampler_step_first(s, step), end;
    if (s->shuffle == SHUFFLE_GLOBAL) {
        cut(sampler_step_size(s, step), s->microbatches, m, first, last);
    } else {
        int64_t own_first, own_last;
        int rank = microbatch_owner(s, m);
        comm_microbatch_range(s->microbatches, rank, s->size, &own_first, &own_last);
        shard_share(s, step, rank, &base, &end);
        cut(end - base, own_last - own_first, m - own_first, first, last);
    }
    *first += base;
    *last += base;
}

void sampler_own(const struct sampler *s, int64_t *first, int64_t *last)
{
    comm_microbatch_range(s->microbatches, s->rank, s->size, first, last);
}

void sampler_share(const struct sampler *s, int64_t step, int rank, int64_t *first, int64_t *last)
{
    int64_t own_first, own_last, ignored;
    CHECK(rank >= 0 && rank < s->size);
    if (s->shuffle != SHUFFLE_GLOBAL) {
        shard_share(s, step, rank, first, last);
        return;
    }
    comm_microbatch_range(s->microbatches, rank, s->size, &own_first, &own_last);
    *first = *last = sampler_step_first(s, step);
    if (own_first == own_last) // more ranks than micro-batches: nothing to do
        return;
    sampler_microbatch(s, step, own_first, first, &ignored);
    sampler_microbatch(s, step, own_last - 1, &ignored, last);
}

int64_t sampler_largest_microbatch(const struct sampler *s)
{
    if (s->shuffle == SHUFFLE_GLOBAL)
        return (at_most(s->batch, s->count) + s->microbatches - 1) / s->microbatches;
    int64_t first, last, steps = sampler_steps(s);
    sampler_own(s, &first, &last);
    int64_t rows = (rank_rows(s, s->rank) + steps - 1) / steps; // of a step, at most
    return (rows + last - first - 1) / (last - first);
}

int sampler_owner(const struct sampler *s, int64_t position)
{
    int64_t step = step_of(s, position), first, last;
    for (int r = 0; r < s->size; r++) {
        sampler_share(s, step, r, &first, &last);
        if (position >= first && position < last)
            return r;
    }
    CHECK(!"a position has an owner");
    return -1;
}

// The order of an epoch over `count` samples: all of them, or a rank's own rows.
static struct permutation epoch_order(const struct sampler *s, int64_t epoch, int64_t count)
{
    struct permutation p;
    permutation_init(&p, s->seed, RANDOM_SHUFFLE, (uint32_t)epoch, (uint64_t)count);
    return p;
}

int64_t sampler_sample(const struct sampler *s, int64_t epoch, int64_t position)
{
    CHECK(position >= 0 && position < s->count);
    if (s->shuffle == SHUFFLE_GLOBAL) {
        struct permutation p = epoch_order(s, epoch, s->count);
        return (int64_t)permutation_apply(&p, (uint64_t)position);
    }
    int64_t first, last, step = step_of(s, position);
    int rank = sampler_owner(s, position);
    shard_share(s, step, rank, &first, &last);
    int64_t turn = rows_before(s, rank_rows(s, rank), step) + position - first;
    shard_rows(s->count, rank, s->size, &first, &last);
    struct permutation p = epoch_order(s, epoch, last - first);
    return first + (int64_t)permutation_apply(&p, (uint64_t)turn);
}

// shuffle: shard. The rank that read a sample.
static int sample_reader(const struct sampler *s, int64_t sample)
{
    int64_t first, last;
    for (int r = 0; r < s->size; r++) {
        shard_rows(s->count, r, s->size, &first, &last);
        if (sample >= first && sample < last)
            return r;
    }
    CHECK(!"a sample has a reader");
    return -1;
}

int64_t sampler_position(const struct sampler *s, int64_t epoch, int64_t sample)
{
    CHECK(sample >= 0 && sample < s->count);
    if (s->shuffle == SHUFFLE_GLOBAL) {
        struct permutation p = epoch_order(s, epoch, s->count);
        return (int64_t)permutation_invert(&p, (uint64_t)sample);
    }
    int64_t first, last;
    int rank = sample_reader(s, sample);
    shard_rows(s->count, rank, s->size, &first, &last);
    int64_t rows = last - first;
    CHECK(rows > 0); // the rank has this sample
    struct permutation p = epoch_order(s, epoch, rows);
    int64_t turn = (int64_t)permutation_invert(&p, (uint64_t)(sample - first));
    // The last step with rows_before(step) <= turn.
    int64_t step = ((turn + 1) * sampler_steps(s) - 1) / rows;
    shard_share(s, step, rank, &first, &last);
    return first + turn - rows_before(s, rows, step);
}
