#include "data/shard_exchange.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/random.h"

struct exchange {
    struct comm *comm; // borrowed
    struct sampler sampler;
    int64_t epoch;
    struct exchange_buffers buffers;
    struct permutation order;
    int32_t *owner;                                      // owned; [batch], of a whole step
    int32_t *owner_last;                                 // owned; [batch], of the last step
    int64_t pieces, next_piece;                          // next_piece: not started yet
    int64_t landed;                                      // rows to come that are spoken for
    int64_t *samples;                                    // owned; of the piece
    int64_t *leaving;                                    // owned; slots of those that are sent
    size_t *send_count, *send_at, *recv_count, *recv_at; // owned, one block; [size], bytes
    int64_t *cursor;                                     // owned; [2 * size], rows
    struct comm_request *request;                        // in flight, or NULL
};

// First position of a piece; `pieces` gives count. Larger ones first.
static int64_t piece_first(const struct exchange *x, int64_t piece)
{
    int64_t size = x->sampler.count / x->pieces, larger = x->sampler.count % x->pieces;
    return piece * size + (piece < larger ? piece : larger);
}

int64_t exchange_rows(const struct sampler *s)
{
    int64_t first, last, steps = sampler_steps(s);
    sampler_share(s, 0, s->rank, &first, &last);
    int64_t rows = (last - first) * (steps - 1);
    sampler_share(s, steps - 1, s->rank, &first, &last);
    return rows + last - first;
}

int64_t exchange_sent_rows(const struct sampler *s, int64_t pieces, int64_t rows)
{
    int64_t piece = (s->count + pieces - 1) / pieces;
    double mean = (double)piece * (double)rows / (double)s->count;
    int64_t most = (int64_t)(mean + 8.0 * sqrt(mean)) + 8;
    return most < piece ? most : piece;
}

// Which rank trains on each position of a step.
static void fill_owners(const struct sampler *s, int64_t step, int32_t *owner)
{
    int64_t base = sampler_step_first(s, step), first, last;
    for (int r = 0; r < s->size; r++) {
        sampler_share(s, step, r, &first, &last);
        for (int64_t p = first; p < last; p++)
            owner[p - base] = r;
    }
}

static int owner_of(const struct exchange *x, int64_t position)
{
    int64_t step = position / x->sampler.batch, at = position % x->sampler.batch;
    return step == sampler_steps(&x->sampler) - 1 ? x->owner_last[at] : x->owner[at];
}

static int allocate(struct exchange *x)
{
    size_t size = (size_t)x->sampler.size, batch = (size_t)x->sampler.batch;
    x->owner = malloc(batch * sizeof *x->owner);
    x->owner_last = malloc(batch * sizeof *x->owner_last);
    x->samples = malloc((size_t)piece_first(x, 1) * sizeof *x->samples);
    x->leaving = malloc((size_t)piece_first(x, 1) * sizeof *x->leaving);
    x->send_count = malloc(4 * size * sizeof *x->send_count);
    x->cursor = malloc(2 * size * sizeof *x->cursor);
    if (!x->owner || !x->owner_last || !x->samples || !x->leaving || !x->send_count || !x->cursor)
        return FAIL(RETORT_MEMORY, "no memory to plan the exchange of %lld samples",
                    (long long)x->sampler.count);
    x->send_at = x->send_count + size;
    x->recv_count = x->send_at + size;
    x->recv_at = x->recv_count + size;
    return RETORT_OK;
}

int exchange_create(struct exchange **out, struct comm *comm, const struct sampler *sampler,
                    int64_t epoch, int64_t pieces, const struct exchange_buffers *buffers)
{
    *out = NULL;
    CHECK(sampler->shuffle == SHUFFLE_GLOBAL && sampler->count > 0 && pieces > 0);
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return FAIL(RETORT_MEMORY, "no memory for an exchange");
    x->comm = comm;
    x->sampler = *sampler;
    x->epoch = epoch;
    x->buffers = *buffers;
    x->pieces = pieces < sampler->count ? pieces : sampler->count;
    permutation_init(&x->order, sampler->seed, RANDOM_SHUFFLE, (uint32_t)epoch,
                     (uint64_t)sampler->count);
    int rc = allocate(x);
    if (rc != RETORT_OK) {
        (void)exchange_destroy(&x);
        return rc;
    }
    fill_owners(sampler, 0, x->owner);
    fill_owners(sampler, sampler_steps(sampler) - 1, x->owner_last);
    *out = x;
    return RETORT_OK;
}

static int wait_for_piece(struct exchange *x)
{
    return x->request ? comm_exchange_wait(x->comm, &x->request) : RETORT_OK;
}

int exchange_destroy(struct exchange **p)
{
    struct exchange *x = *p;
    *p = NULL;
    if (!x)
        return RETORT_OK;
    const bool queued = x->request && !x->buffers.room->memory.is_host;
    int rc = wait_for_piece(x);
    if (rc == RETORT_OK && queued)
        rc = comm_wait(x->comm); // its memory may be freed now
    free(x->owner);
    free(x->owner_last);
    free(x->samples);
    free(x->leaving);
    free(x->send_count);
    free(x->cursor);
    free(x);
    return rc;
}

// Which rank holds a sample now.
static int holder_of(const struct exchange *x, int64_t sample)
{
    int64_t place = x->buffers.place[sample];
    return place >= 0 ? x->sampler.rank : (int)(-1 - place);
}

// Looks up the samples at positions [first, last) and counts, in rows, what goes where.
static void count_piece(struct exchange *x, int64_t first, int64_t last)
{
    int me = x->sampler.rank;
    memset(x->send_count, 0, 4 * (size_t)x->sampler.size * sizeof *x->send_count);
    for (int64_t p = first; p < last; p++) {
        int64_t sample = (int64_t)permutation_apply(&x->order, (uint64_t)p);
        int from = holder_of(x, sample), to = owner_of(x, p);
        x->samples[p - first] = sample;
        x->send_count[to] += from == me;
        x->recv_count[from] += to == me;
    }
}

// Offsets from counts, both in rows, and cursors at the offsets. Returns the rows in all.
static size_t lay_out(const size_t *count, size_t *at, int64_t *cursor, int size)
{
    size_t rows = 0;
    for (int r = 0; r < size; r++) {
        at[r] = rows;
        cursor[r] = (int64_t)rows;
        rows += count[r];
    }
    return rows;
}

// Notes which slots leave, in the order of the send buffer, and in the table to come where all will
// be.
static void place_piece(struct exchange *x, int64_t first, int64_t last)
{
    int me = x->sampler.rank;
    int64_t *send_cursor = x->cursor, *recv_cursor = x->cursor + x->sampler.size;
    for (int64_t p = first; p < last; p++) {
        int64_t sample = x->samples[p - first], place = x->buffers.place[sample];
        int from = holder_of(x, sample), to = owner_of(x, p);
        if (from == me)
            x->leaving[send_cursor[to]++] = place;
        x->buffers.next_place[sample] =
            to == me ? x->landed + recv_cursor[from]++ : place_at_rank(to);
    }
}

// Copies what leaves into the send buffer.
static int gather_piece(const struct exchange *x, int64_t rows)
{
    struct shard_room *room = x->buffers.room;
    const struct pixel_memory *m = &room->memory;
    int rc = RETORT_OK;
    TRY(room_reserve_send(room, rows));
    TRY(m->upload(m->context, room->leaving, x->leaving, (size_t)rows * sizeof *x->leaving));
    TRY(m->gather(m->context, room->send, room->rows[x->buffers.now].pixels, room->leaving, rows,
                  room->picture_bytes));
fail:
    return rc;
}

static int start_piece(struct exchange *x)
{
    const struct shard_room *room = x->buffers.room;
    int size = x->sampler.size, rc = RETORT_OK;
    int64_t first = piece_first(x, x->next_piece);
    int64_t last = piece_first(x, x->next_piece + 1);
    count_piece(x, first, last);
    size_t sent = lay_out(x->send_count, x->send_at, x->cursor, size);
    size_t received = lay_out(x->recv_count, x->recv_at, x->cursor + size, size);
    place_piece(x, first, last);
    TRY(gather_piece(x, (int64_t)sent));
    for (int i = 0; i < 4 * size; i++)
        x->send_count[i] *= room->picture_bytes; // the four arrays are one block
    uint8_t *landing =
        room->rows[1 - x->buffers.now].pixels + (size_t)x->landed * room->picture_bytes;
    x->landed += (int64_t)received;
    x->next_piece++;
    rc = (room->memory.is_host ? comm_exchange_start : comm_engine_exchange_start)(
        x->comm, &x->request, room->send, x->send_count, x->send_at, landing, x->recv_count,
        x->recv_at);
fail:
    return rc;
}

int exchange_step(struct exchange *x)
{
    int rc = wait_for_piece(x);
    if (rc == RETORT_OK && x->next_piece < x->pieces)
        rc = start_piece(x);
    return rc;
}

int exchange_poll(struct exchange *x)
{
    bool done;
    return x->request ? comm_exchange_test(x->comm, &x->request, &done) : RETORT_OK;
}

bool exchange_is_done(const struct exchange *x)
{
    return x->next_piece == x->pieces && !x->request;
}

bool exchange_is_for(const struct exchange *x, const struct sampler *s, int64_t epoch)
{
    const struct sampler *own = &x->sampler;
    return x->epoch == epoch && own->count == s->count && own->batch == s->batch &&
           own->microbatches == s->microbatches && own->seed == s->seed;
}
