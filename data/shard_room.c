#include "data/shard_room.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"

static void *take(const struct pixel_memory *m, size_t bytes)
{
    return m->alloc(m->context, bytes);
}

static void give_back(const struct pixel_memory *m, void *p)
{
    m->free(m->context, p);
}

void room_init(struct shard_room *r, size_t picture_bytes)
{
    *r = (struct shard_room){.memory = pixel_memory_host, .picture_bytes = picture_bytes};
}

void room_free(struct shard_room *r)
{
    const struct pixel_memory *m = &r->memory;
    if (!m->alloc)
        return; // never initialised
    for (int i = 0; m->is_host && i < 2; i++)
        give_back(m, r->rows[i].pixels);
    give_back(m, r->block);
    give_back(m, r->send);
    give_back(m, r->leaving);
    room_init(r, r->picture_bytes);
}

static bool take_send(struct shard_room *r, int64_t rows)
{
    const struct pixel_memory *m = &r->memory;
    if (rows <= r->send_capacity)
        return true;
    give_back(m, r->send);
    give_back(m, r->leaving);
    r->send = take(m, (size_t)rows * r->picture_bytes);
    r->leaving = take(m, (size_t)rows * sizeof *r->leaving);
    r->send_capacity = r->send && r->leaving ? rows : 0;
    return r->send_capacity == rows;
}

bool room_take(struct shard_room *r, const struct pixel_memory *memory, int buffers, int64_t rows,
               int64_t sent)
{
    const size_t bytes = (size_t)rows * r->picture_bytes;
    CHECK(!memory->is_host && buffers <= 2 && !r->rows[0].pixels && !r->send);
    r->memory = *memory;
    r->block = take(memory, (size_t)buffers * bytes);
    for (int i = 0; r->block && i < buffers; i++)
        r->rows[i] = (struct shard_rows){r->block + (size_t)i * bytes, rows};
    if (r->block && take_send(r, sent))
        return true;
    room_free(r);
    return false;
}

static int no_memory(const struct shard_room *r, int64_t rows, const char *what)
{
    char size[32];
    format_bytes((double)rows * (double)r->picture_bytes, size, sizeof size);
    return FAIL(RETORT_MEMORY, "no memory for %lld pictures (%s) %s; use more ranks",
                (long long)rows, size, what);
}

int room_reserve(struct shard_room *r, int which, int64_t rows)
{
    struct shard_rows *of = &r->rows[which];
    if (of->pixels && of->capacity >= rows)
        return RETORT_OK;
    CHECK(r->memory.is_host); // else room_take was asked for too little
    give_back(&r->memory, of->pixels);
    of->pixels = take(&r->memory, (size_t)rows * r->picture_bytes);
    of->capacity = of->pixels ? rows : 0;
    return of->pixels ? RETORT_OK : no_memory(r, rows, "on this rank");
}

int room_reserve_send(struct shard_room *r, int64_t rows)
{
    return take_send(r, rows) ? RETORT_OK : no_memory(r, rows, "to send to other ranks");
}

size_t room_bytes(const struct shard_room *r)
{
    size_t rows = (size_t)(r->rows[0].capacity + r->rows[1].capacity);
    return rows * r->picture_bytes +
           (size_t)r->send_capacity * (r->picture_bytes + sizeof *r->leaving);
}
