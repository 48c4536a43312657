#include "data/shard.h"

#include "base/error.h"
#include "data/shard_exchange.h"
#include "data/shard_room.h"

enum { READ_BYTES = 32 << 20 }; // what one read asks for, and stages

// An exchange moves in this many pieces: enough that what waits to be sent is small beside a shard,
// few enough that starting them costs nothing.
enum { PIECES_AT_LEAST = 32, PIECES_AT_MOST = 256 };

struct shard {
    struct comm *comm; // borrowed
    enum dataset_split split;
    int64_t count, first, last; // of the split; this rank's rows of the file
    int32_t *labels;            // owned; [count]
    struct shard_room room;
    int64_t *place[2];      // owned; [count of the split], see data/shard_exchange.h
    int now;                // which buffer is trained on; an exchange fills the other
    bool as_in_file;        // buffer `now` holds rows [first, last) in order
    bool has_epoch;         // shard_slots works
    struct sampler sampler; // of the epoch
    int64_t epoch;
    struct exchange *exchange;    // owned; NULL when none is under way
    int64_t calls, calls_a_piece; // of shard_progress, for that exchange
};

static int reserve(struct shard *s, int which, int64_t rows)
{
    if (!s->place[which])
        s->place[which] = malloc((size_t)(s->count + 1) * sizeof *s->place[which]);
    if (!s->place[which])
        return FAIL(RETORT_MEMORY, "no memory for the places of %lld pictures",
                    (long long)s->count);
    return room_reserve(&s->room, which, rows);
}

// Where all samples are while every rank holds its rows of the file.
static void place_as_in_file(struct shard *s)
{
    int64_t first, last, *place = s->place[s->now];
    int me = comm_rank(s->comm), size = comm_size(s->comm);
    for (int r = 0; r < size; r++) {
        shard_rows(s->count, r, size, &first, &last);
        for (int64_t i = first; i < last; i++)
            place[i] = r == me ? i - first : place_at_rank(r);
    }
    s->as_in_file = true;
}

// What one read asks for: whole blocks.
static int64_t rows_a_read(const struct shard *s)
{
    int64_t blocks = READ_BYTES / (int64_t)s->room.picture_bytes / DATASET_BLOCK;
    return (blocks > 0 ? blocks : 1) * DATASET_BLOCK;
}

// The rows of the file into the buffer; through a staging buffer where the host may not write it.
static int read_rows(struct shard *s, const struct dataset *d)
{
    const struct pixel_memory *m = &s->room.memory;
    const int64_t most = rows_a_read(s);
    const size_t bytes = s->room.picture_bytes;
    uint8_t *staging = NULL;
    int rc = RETORT_OK;
    TRY(reserve(s, s->now, s->last - s->first));
    staging = m->is_host ? NULL : malloc((size_t)most * bytes);
    TRY_ELSE(m->is_host || staging, RETORT_MEMORY, "no memory to read %lld pictures",
             (long long)most);
    uint8_t *to = s->room.rows[s->now].pixels;
    for (int64_t row = s->first; row < s->last; row += most) {
        int64_t count = s->last - row < most ? s->last - row : most;
        TRY(dataset_read(d, s->split, row, count, staging ? staging : to, NULL));
        if (staging)
            TRY(m->upload(m->context, to, staging, (size_t)count * bytes));
        to += (size_t)count * bytes;
    }
    place_as_in_file(s);
fail:
    free(staging);
    return rc;
}

static int begin(struct shard *s, struct comm *comm, const struct dataset *d,
                 enum dataset_split split)
{
    int rc = RETORT_OK;
    TRY_ELSE(s, RETORT_MEMORY, "no memory for a shard");
    s->comm = comm;
    s->split = split;
    s->count = d->count[split];
    room_init(&s->room, (size_t)d->height * (size_t)d->width * DATASET_CHANNELS);
    shard_rows(s->count, comm_rank(comm), comm_size(comm), &s->first, &s->last);
    s->labels = malloc((size_t)(s->count + 1) * sizeof *s->labels);
    TRY_ELSE(s->labels, RETORT_MEMORY, "no memory for %lld labels", (long long)s->count);
    TRY(dataset_read(d, split, 0, s->count, NULL, s->labels));
fail:
    return rc;
}

// Nothing moves for this sampler: every rank trains on the rows it read.
static bool stays(const struct sampler *sampler)
{
    return sampler->size == 1 || sampler->shuffle != SHUFFLE_GLOBAL;
}

// Collective. All ranks hold their pictures at home, or all in the host's memory: an exchange goes
// one way.
static void settle(struct shard *s, const struct shard_home *home)
{
    int64_t rows = s->last - s->first, sent = 0;
    int buffers = 1;
    for (int i = 0; home && i < home->sampler_count; i++)
        if (!stays(&home->samplers[i])) {
            int64_t needed = exchange_rows(&home->samplers[i]);
            rows = needed > rows ? needed : rows;
            buffers = 2;
        }
    if (buffers == 2)
        sent = exchange_sent_rows(&home->samplers[0], PIECES_AT_LEAST, rows);
    bool settled = home && room_take(&s->room, &home->memory, buffers, rows, sent);
    if (comm_any(s->comm, !settled))
        room_free(&s->room);
}

int shard_open(struct shard **out, struct comm *comm, const struct dataset *d,
               enum dataset_split split, const struct shard_home *home)
{
    struct shard *s = calloc(1, sizeof *s);
    int rc = begin(s, comm, d, split);
    *out = NULL;
    TRY(comm_agree(comm, rc));
    CHECK(s); // as agreed
    settle(s, home);
    TRY(comm_agree(comm, read_rows(s, d)));
    *out = s;
    return RETORT_OK;
fail:
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
    room_free(&s->room);
    for (int i = 0; i < 2; i++)
        free(s->place[i]);
    free(s->labels);
    free(s);
}

const uint8_t *shard_pixels(const struct shard *s)
{
    return s->room.rows[s->now].pixels;
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
    const size_t count = (size_t)s->count, shard = (size_t)(s->last - s->first);
    const size_t buffers = comm_size(s->comm) > 1 && s->split == SPLIT_TRAIN ? 2 : 1;
    const size_t even = buffers * shard * s->room.picture_bytes, held = room_bytes(&s->room);
    // In the host's memory an even share is what the second buffer will take.
    return (s->room.memory.is_host && even > held ? even : held) +
           count * (sizeof *s->labels + buffers * sizeof *s->place[0]);
}

size_t shard_resident(const struct shard *s)
{
    return s->room.memory.is_host ? 0 : room_bytes(&s->room);
}

static bool holds(const struct shard *s, const struct sampler *sampler, int64_t epoch)
{
    if (stays(sampler) || s->as_in_file || !s->has_epoch || s->epoch != epoch)
        return false;
    const struct sampler *own = &s->sampler;
    return own->count == sampler->count && own->batch == sampler->batch &&
           own->microbatches == sampler->microbatches && own->seed == sampler->seed;
}

// Collective. The second buffer is there and the exchange planned on every rank, or on none.
static int plan_exchange(struct shard *s, const struct sampler *sampler, int64_t epoch,
                         int64_t pieces)
{
    int rc, next = 1 - s->now;
    CHECK(!s->exchange);
    TRY(reserve(s, next, exchange_rows(sampler)));
    struct exchange_buffers buffers = {&s->room, s->now, s->place[s->now], s->place[next]};
    TRY(exchange_create(&s->exchange, s->comm, sampler, epoch, pieces, &buffers));
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
        int64_t place = s->place[s->now][sample];
        CHECK(place >= 0);
        sample_id[p - first] = sample;
        slot[p - first] = place;
    }
    return RETORT_OK;
}
