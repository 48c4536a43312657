#include "data/shard_exchange.h"

#include <string.h>

#include "base/error.h"
#include "base/random.h"

enum { PIECE_STEPS = 8 }; // a piece is as many steps' samples, and takes as many steps

struct piece {
    int64_t first, last; // positions of the target epoch
};

// Which rank holds a sample in a layout, and, on that rank, its slot.
static int holder(const struct shard *s, int64_t sample, int64_t *slot)
{
    const struct shard_layout *l = &s->layout;
    int size = comm_size(s->comm), me = comm_rank(s->comm);
    if (l->moved) {
        int64_t position = sampler_position(&l->sampler, l->epoch, sample);
        int rank = sampler_owner(&l->sampler, position);
        if (rank == me)
            *slot = l->slot[sampler_local(&l->sampler, rank, position)];
        return rank;
    }
    int64_t blocks = (s->count + DATASET_BLOCK - 1) / DATASET_BLOCK;
    int64_t part = blocks / size, larger = blocks % size, block = sample / DATASET_BLOCK;
    int64_t in_larger = larger * (part + 1);
    int rank = block < in_larger ? (int)(block / (part + 1))
                                 : (int)(larger + (block - in_larger) / (part ? part : 1));
    if (rank == me)
        *slot = sample - s->first;
    return rank;
}

static void forget(struct exchange *x)
{
    free(x->target.slot);
    free(x->staging);
    free(x->counts);
    memset(x, 0, sizeof *x);
}

void exchange_abandon(struct shard *s)
{
    forget(&s->exchange);
}

int exchange_cancel(struct shard *s)
{
    int rc = RETORT_OK;
    if (s->exchange.request)
        rc = comm_exchange_wait(s->comm, &s->exchange.request);
    forget(&s->exchange);
    return rc;
}

// Two passes over a piece: the first counts, the second fills staging and slots.
static int fill_piece(struct shard *s, struct piece piece, size_t *next_send, size_t *next_recv,
                      bool count_only)
{
    struct exchange *x = &s->exchange;
    const struct sampler *t = &x->target.sampler;
    int me = comm_rank(s->comm);
    for (int64_t p = piece.first; p < piece.last; p++) {
        int64_t slot = 0;
        int to = sampler_owner(t, p);
        int from = holder(s, sampler_sample(t, x->target.epoch, p), &slot);
        if (from == me && !count_only)
            memcpy(x->staging + next_send[to] * s->picture_bytes,
                   s->buffers[s->now].pixels + (size_t)slot * s->picture_bytes, s->picture_bytes);
        if (to == me && !count_only)
            x->target.slot[sampler_local(t, me, p)] = x->landed + (int64_t)next_recv[from];
        if (from == me)
            next_send[to]++;
        if (to == me)
            next_recv[from]++;
    }
    return RETORT_OK;
}

static int reserve_staging(struct shard *s, int64_t rows)
{
    struct exchange *x = &s->exchange;
    if (x->staging_rows >= rows)
        return RETORT_OK;
    free(x->staging);
    x->staging = malloc((size_t)rows * s->picture_bytes);
    x->staging_rows = x->staging ? rows : 0;
    return x->staging ? RETORT_OK
                      : FAIL(RETORT_MEMORY, "no memory to exchange %lld pictures", (long long)rows);
}

// Turns counts[size] into offsets[size], both in rows; returns the sum.
static size_t offsets_of(const size_t *counts, size_t *offsets, int size)
{
    size_t sum = 0;
    for (int r = 0; r < size; r++) {
        offsets[r] = sum;
        sum += counts[r];
    }
    return sum;
}

static int start_piece(struct shard *s)
{
    struct exchange *x = &s->exchange;
    int size = comm_size(s->comm), rc = RETORT_OK;
    size_t n = (size_t)size, *send = x->counts, *send_at = send + n, *recv = send + 2 * n,
           *recv_at = send + 3 * n, *next = send + 4 * n;
    int64_t step = x->target.sampler.batch * PIECE_STEPS;
    struct piece piece = {x->next_position, x->next_position + step};
    if (piece.last > s->count)
        piece.last = s->count;
    memset(x->counts, 0, 6 * n * sizeof *x->counts);
    TRY(fill_piece(s, piece, send, recv, true));
    size_t sent = offsets_of(send, send_at, size), received = offsets_of(recv, recv_at, size);
    TRY(reserve_staging(s, (int64_t)(sent ? sent : 1)));
    memcpy(next, send_at, n * sizeof *next);
    memcpy(next + n, recv_at, n * sizeof *next);
    TRY(fill_piece(s, piece, next, next + n, false));
    for (size_t i = 0; i < 4 * n; i++)
        x->counts[i] *= s->picture_bytes;
    uint8_t *landing = s->buffers[!s->now].pixels + (size_t)x->landed * s->picture_bytes;
    TRY(comm_exchange_start(s->comm, &x->request, x->staging, send, send_at, landing, recv,
                            recv_at));
    x->landed += (int64_t)received;
    x->next_position = piece.last;
fail:
    return rc;
}

static int finish_piece(struct shard *s)
{
    struct exchange *x = &s->exchange;
    return x->request ? comm_exchange_wait(s->comm, &x->request) : RETORT_OK;
}

// A rank that is alone, or permutes its own rows, moves nothing: only slots change.
static void place_unmoved(struct shard *s, struct shard_layout *l)
{
    const struct sampler *t = &l->sampler;
    int64_t rows = s->last - s->first, share = sampler_share(t, comm_rank(s->comm));
    struct permutation own;
    if (t->shuffle == SHUFFLE_SHARD) {
        permutation_init(&own, t->seed, RANDOM_SHUFFLE, (uint32_t)l->epoch, (uint64_t)rows);
        for (int64_t i = 0; i < share; i++)
            l->slot[i] = (int64_t)permutation_apply(&own, (uint64_t)(i % rows));
        return;
    }
    for (int64_t p = 0; p < s->count; p++)
        l->slot[sampler_local(t, 0, p)] = sampler_sample(t, l->epoch, p);
}

static bool stays(const struct shard *s, const struct sampler *sampler)
{
    return comm_size(s->comm) == 1 || sampler->shuffle == SHUFFLE_SHARD;
}

static int new_layout(struct shard *s, struct shard_layout *l, const struct sampler *sampler,
                      int64_t epoch)
{
    int64_t share = sampler_share(sampler, comm_rank(s->comm));
    memset(l, 0, sizeof *l);
    l->is_epoch = true;
    l->sampler = *sampler;
    l->epoch = epoch;
    l->moved = !stays(s, sampler);
    l->slot = malloc((size_t)(share ? share : 1) * sizeof *l->slot);
    return l->slot ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for the order of an epoch");
}

int shard_prefetch(struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    struct exchange *x = &s->exchange;
    int64_t share = sampler_share(sampler, comm_rank(s->comm));
    int rc = RETORT_OK;
    if (stays(s, sampler))
        return RETORT_OK; // nothing moves: shard_begin_epoch does it at once
    CHECK(!x->active);
    TRY(new_layout(s, &x->target, sampler, epoch));
    TRY(shard_reserve(s, !s->now, share ? share : 1));
    x->counts = calloc(6 * (size_t)comm_size(s->comm), sizeof *x->counts);
    TRY_ELSE(x->counts, RETORT_MEMORY, "no memory for an exchange");
    x->active = true;
fail:
    return rc;
}

int shard_progress(struct shard *s)
{
    struct exchange *x = &s->exchange;
    bool done;
    int rc = RETORT_OK;
    if (!x->active)
        return RETORT_OK;
    if (x->calls++ % PIECE_STEPS == 0) {
        TRY(finish_piece(s));
        if (x->next_position < s->count)
            TRY(start_piece(s));
    } else if (x->request)
        TRY(comm_exchange_test(s->comm, &x->request, &done));
fail:
    return rc;
}

static void take_layout(struct shard *s, struct shard_layout *l)
{
    free(s->layout.slot);
    s->layout = *l;
    l->slot = NULL;
}

int shard_begin_epoch(struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    struct exchange *x = &s->exchange;
    int rc = RETORT_OK;
    if (stays(s, sampler)) {
        struct shard_layout l;
        CHECK(!s->layout.moved);
        TRY(new_layout(s, &l, sampler, epoch));
        place_unmoved(s, &l);
        take_layout(s, &l);
        return RETORT_OK;
    }
    bool same = x->active && x->target.epoch == epoch &&
                memcmp(&x->target.sampler, sampler, sizeof *sampler) == 0;
    if (!same) {
        TRY(exchange_cancel(s));
        TRY(shard_prefetch(s, sampler, epoch));
    }
    TRY(finish_piece(s));
    while (x->next_position < s->count) {
        TRY(start_piece(s));
        TRY(finish_piece(s));
    }
    take_layout(s, &x->target);
    s->now = !s->now;
    forget(x);
fail:
    return rc;
}
