#include "data/shard.h"

#include <string.h>

#include "base/error.h"
#include "data/shard_exchange.h"

void shard_rows(int64_t count, int rank, int size, int64_t *first, int64_t *last)
{
    int64_t blocks = (count + DATASET_BLOCK - 1) / DATASET_BLOCK;
    int64_t part = blocks / size, larger = blocks % size;
    int64_t begin = rank * part + (rank < larger ? rank : larger);
    int64_t end = begin + part + (rank < larger ? 1 : 0);
    *first = begin * DATASET_BLOCK < count ? begin * DATASET_BLOCK : count;
    *last = end * DATASET_BLOCK < count ? end * DATASET_BLOCK : count;
}

static int read_rows(struct shard *s, const struct dataset *d)
{
    return dataset_read(d, s->split, s->first, s->last - s->first, s->buffers[s->now].pixels, NULL);
}

int shard_reserve(struct shard *s, int which, int64_t rows)
{
    struct shard_buffer *b = &s->buffers[which];
    if (b->capacity >= rows)
        return RETORT_OK;
    free(b->pixels);
    b->capacity = 0;
    b->pixels = malloc((size_t)rows * s->picture_bytes);
    if (!b->pixels)
        return FAIL(RETORT_MEMORY, "no memory for a shard of %lld pictures; use more ranks",
                    (long long)rows);
    b->capacity = rows;
    return RETORT_OK;
}

int shard_open(struct shard **out, struct comm *comm, const struct dataset *d,
               enum dataset_split split)
{
    int rc = RETORT_OK;
    struct shard *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(RETORT_MEMORY, "no memory for a shard");
    s->comm = comm;
    s->split = split;
    s->count = d->count[split];
    s->picture_bytes = (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
    shard_rows(s->count, comm_rank(comm), comm_size(comm), &s->first, &s->last);
    s->labels = malloc((size_t)s->count * sizeof *s->labels);
    TRY_ELSE(s->labels, RETORT_MEMORY, "no memory for %lld labels", (long long)s->count);
    TRY(shard_reserve(s, 0, s->last - s->first > 0 ? s->last - s->first : 1));
    TRY(dataset_read(d, split, 0, s->count, NULL, s->labels));
    TRY(read_rows(s, d));
    *out = s;
    return RETORT_OK;
fail:
    shard_close(&s);
    return rc;
}

void shard_close(struct shard **p)
{
    struct shard *s = *p;
    if (!s)
        return;
    exchange_abandon(s);
    for (int i = 0; i < 2; i++)
        free(s->buffers[i].pixels);
    free(s->labels);
    free(s->layout.slot);
    free(s);
    *p = NULL;
}

const uint8_t *shard_pixels(const struct shard *s)
{
    return s->buffers[s->now].pixels;
}

const int32_t *shard_labels(const struct shard *s)
{
    return s->labels;
}

int64_t shard_count(const struct shard *s)
{
    return s->count;
}

void shard_range(const struct shard *s, int64_t *first, int64_t *last)
{
    *first = s->first;
    *last = s->last;
}

size_t shard_memory(const struct shard *s)
{
    size_t one = (size_t)(s->last - s->first) * s->picture_bytes;
    bool moves = s->split == SPLIT_TRAIN && comm_size(s->comm) > 1;
    return (moves ? 2 * one : one) + (size_t)s->count * sizeof *s->labels;
}

int shard_restore(struct shard *s, const struct dataset *d)
{
    int rc = exchange_cancel(s);
    if (rc != RETORT_OK || !s->layout.is_epoch)
        return rc;
    bool moved = s->layout.moved;
    free(s->layout.slot);
    memset(&s->layout, 0, sizeof s->layout);
    if (!moved)
        return RETORT_OK;
    rc = shard_reserve(s, s->now, s->last - s->first);
    return rc ? rc : read_rows(s, d);
}

int shard_slots(const struct shard *s, int64_t first, int64_t last, int64_t *sample_id,
                int64_t *slot)
{
    const struct shard_layout *l = &s->layout;
    CHECK(l->is_epoch);
    int rank = comm_rank(s->comm);
    for (int64_t p = first; p < last; p++) {
        int64_t local = sampler_local(&l->sampler, rank, p);
        slot[p - first] = l->slot[local];
        sample_id[p - first] = l->moved ? sampler_sample(&l->sampler, l->epoch, p)
                                        : s->first + l->slot[local]; // rows as in the file
    }
    return RETORT_OK;
}
