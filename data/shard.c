#include "data/shard.h"

#include "base/error.h"
#include "base/log.h"
#include "data/shard_exchange.h"

enum { READ_ROWS = 32 * DATASET_BLOCK }; // what one read asks for

// An exchange moves in this many pieces: enough that what waits to be sent is small beside a shard,
// few enough that starting them costs nothing.
enum { PIECES_AT_LEAST = 32, PIECES_AT_MOST = 256 };

struct rows {
    uint8_t *pixels; // owned; [capacity, picture_bytes]
    int64_t capacity;
    int64_t *place; // owned; [count of the split], see data/shard_exchange.h
};

struct shard {
    struct comm *comm; // borrowed
    enum dataset_split split;
    int64_t count, first, last; // of the split; this rank's rows of the file
    size_t picture_bytes;
    int32_t *labels;        // owned; [count]
    struct rows rows[2];    // what is trained on, and what the exchange fills
    int now;                // which of them is trained on
    bool as_in_file;        // rows[now] holds rows [first, last) in order
    bool has_epoch;         // shard_slots works
    struct sampler sampler; // of the epoch
    int64_t epoch;
    struct exchange *exchange;    // owned; NULL when none is under way
    int64_t calls, calls_a_piece; // of shard_progress, for that exchange
    size_t most_bytes;            // of buffers so far
};

static int reserve_rows(struct shard *s, int which, int64_t rows)
{
    struct rows *r = &s->rows[which];
    if (!r->place)
        r->place = malloc((size_t)(s->count + 1) * sizeof *r->place);
    if (!r->pixels || r->capacity < rows) {
        free(r->pixels);
        r->pixels = malloc((size_t)rows * s->picture_bytes + 1);
        r->capacity = r->pixels ? rows : 0;
    }
    if (r->pixels && r->place)
        return RETORT_OK;
    char size[32];
    format_bytes((double)rows * (double)s->picture_bytes, size, sizeof size);
    return FAIL(RETORT_MEMORY, "no memory for %lld pictures (%s) on this rank; use more ranks",
                (long long)rows, size);
}

// Where all samples are while every rank holds its rows of the file.
static void place_as_in_file(struct shard *s)
{
    int64_t first, last, *place = s->rows[s->now].place;
    int me = comm_rank(s->comm), size = comm_size(s->comm);
    for (int r = 0; r < size; r++) {
        shard_rows(s->count, r, size, &first, &last);
        for (int64_t i = first; i < last; i++)
            place[i] = r == me ? i - first : place_at_rank(r);
    }
    s->as_in_file = true;
}

static int read_rows(struct shard *s, const struct dataset *d)
{
    int rc = reserve_rows(s, s->now, s->last - s->first);
    uint8_t *to = s->rows[s->now].pixels;
    for (int64_t row = s->first; rc == RETORT_OK && row < s->last; row += READ_ROWS) {
        int64_t count = s->last - row < READ_ROWS ? s->last - row : READ_ROWS;
        rc = dataset_read(d, s->split, row, count, to, NULL);
        to += (size_t)count * s->picture_bytes;
    }
    if (rc == RETORT_OK)
        place_as_in_file(s);
    return rc;
}

int shard_open(struct shard **out, struct comm *comm, const struct dataset *d,
               enum dataset_split split)
{
    int rc;
    *out = NULL;
    struct shard *s = calloc(1, sizeof *s);
    TRY_ELSE(s, RETORT_MEMORY, "no memory for a shard");
    s->comm = comm;
    s->split = split;
    s->count = d->count[split];
    s->picture_bytes = (size_t)d->height * (size_t)d->width * DATASET_CHANNELS;
    shard_rows(s->count, comm_rank(comm), comm_size(comm), &s->first, &s->last);
    s->labels = malloc((size_t)(s->count + 1) * sizeof *s->labels);
    TRY_ELSE(s->labels, RETORT_MEMORY, "no memory for %lld labels", (long long)s->count);
    TRY(dataset_read(d, split, 0, s->count, NULL, s->labels));
    TRY(read_rows(s, d));
fail:
    rc = comm_agree(comm, rc);
    if (rc == RETORT_OK)
        *out = s;
    else
        shard_close(&s);
    return rc;
}

void shard_close(struct shard **p)
{
    struct shard *s = *p;
    *p = NULL;
    if (!s)
        return;
    (void)exchange_destroy(&s->exchange);
    for (int i = 0; i < 2; i++) {
        free(s->rows[i].pixels);
        free(s->rows[i].place);
    }
    free(s->labels);
    free(s);
}

const uint8_t *shard_pixels(const struct shard *s)
{
    return s->rows[s->now].pixels;
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

// Before an exchange has been seen, an even share of the samples is what its buffers will take.
size_t shard_memory(const struct shard *s)
{
    size_t count = (size_t)s->count, shard = (size_t)(s->last - s->first);
    size_t bytes = shard * s->picture_bytes + count * sizeof *s->rows[0].place;
    if (comm_size(s->comm) > 1 && s->split == SPLIT_TRAIN)
        bytes *= 2;
    return (bytes > s->most_bytes ? bytes : s->most_bytes) + count * sizeof *s->labels;
}

// Nothing moves for this sampler: every rank trains on the rows it read.
static bool stays(const struct sampler *sampler)
{
    return sampler->size == 1 || sampler->shuffle != SHUFFLE_GLOBAL;
}

static bool holds(const struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    if (stays(sampler) || s->as_in_file || !s->has_epoch || s->epoch != epoch)
        return false;
    const struct sampler *own = &s->sampler;
    return own->count == sampler->count && own->batch == sampler->batch &&
           own->microbatches == sampler->microbatches && own->seed == sampler->seed;
}

static void note_memory(struct shard *s)
{
    size_t bytes = (size_t)(s->rows[0].capacity + s->rows[1].capacity) * s->picture_bytes +
                   2 * (size_t)s->count * sizeof *s->rows[0].place + exchange_memory(s->exchange);
    s->most_bytes = bytes > s->most_bytes ? bytes : s->most_bytes;
}

// Collective. The second buffer is there and the exchange planned on every rank, or on none.
static int plan_exchange(struct shard *s, const struct sampler *sampler, int64_t epoch,
                         int64_t pieces)
{
    int rc, next = 1 - s->now;
    CHECK(!s->exchange);
    TRY(reserve_rows(s, next, exchange_rows(sampler)));
    struct exchange_buffers buffers = {s->rows[s->now].pixels, s->rows[s->now].place,
                                       s->rows[next].pixels, s->rows[next].place};
    TRY(exchange_create(&s->exchange, s->comm, sampler, epoch, pieces, s->picture_bytes, &buffers));
fail:
    rc = comm_agree(s->comm, rc);
    if (rc != RETORT_OK)
        (void)exchange_destroy(&s->exchange);
    return rc;
}

static int finish_exchange(struct shard *s)
{
    int rc;
    while (!exchange_is_done(s->exchange))
        TRY(exchange_step(s->exchange));
    note_memory(s);
    TRY(exchange_destroy(&s->exchange));
    s->now = 1 - s->now;
    s->as_in_file = false;
fail:
    return rc;
}

int shard_begin_epoch(struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    int rc = RETORT_OK;
    CHECK(sampler->count == s->count && sampler->size == comm_size(s->comm) &&
          sampler->rank == comm_rank(s->comm));
    CHECK(!stays(sampler) || s->as_in_file); // else shard_restore comes first
    if (s->exchange && !exchange_is_for(s->exchange, sampler, epoch))
        TRY(exchange_destroy(&s->exchange));
    if (!stays(sampler) && !holds(s, sampler, epoch)) {
        s->has_epoch = false;
        if (!s->exchange)
            TRY(plan_exchange(s, sampler, epoch, PIECES_AT_LEAST));
        TRY(finish_exchange(s));
    }
    s->sampler = *sampler;
    s->epoch = epoch;
    s->has_epoch = true;
fail:
    return rc;
}

int shard_prefetch(struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    int rc = RETORT_OK;
    int64_t calls = sampler_steps(sampler) - 1, pieces = calls; // between steps
    pieces = pieces < PIECES_AT_LEAST ? PIECES_AT_LEAST : pieces;
    pieces = pieces > PIECES_AT_MOST ? PIECES_AT_MOST : pieces;
    if (stays(sampler))
        return RETORT_OK;
    if (s->exchange && exchange_is_for(s->exchange, sampler, epoch))
        return RETORT_OK;
    TRY(exchange_destroy(&s->exchange));
    TRY(plan_exchange(s, sampler, epoch, pieces));
    s->calls = 0;
    s->calls_a_piece = calls > pieces ? calls / pieces : 1;
    TRY(exchange_step(s->exchange));
fail:
    return rc;
}

int shard_progress(struct shard *s)
{
    if (!s->exchange)
        return RETORT_OK;
    bool due = ++s->calls % s->calls_a_piece == 0;
    return due ? exchange_step(s->exchange) : exchange_poll(s->exchange);
}

int shard_restore(struct shard *s, const struct dataset *d)
{
    int rc;
    TRY(exchange_destroy(&s->exchange));
    s->has_epoch = false;
    if (!s->as_in_file) // true of all ranks or of none
        rc = comm_agree(s->comm, read_rows(s, d));
fail:
    return rc;
}

int shard_slots(const struct shard *s, int64_t first, int64_t last, int64_t *sample_id,
                int64_t *slot)
{
    CHECK(s->has_epoch);
    for (int64_t p = first; p < last; p++) {
        int64_t sample = sampler_sample(&s->sampler, s->epoch, p);
        int64_t place = s->rows[s->now].place[sample];
        CHECK(place >= 0);
        sample_id[p - first] = sample;
        slot[p - first] = place;
    }
    return RETORT_OK;
}
