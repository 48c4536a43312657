#include "base/error.h"
#include "models/cuda/kernels/update.h"

enum { PIECE_MAX = 1024 }; // elements: enough for a block, and blocks enough for a GPU

static size_t later(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t sooner(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum update_treatment treatment_of(const struct graph *g, const struct param *p)
{
    if (p->offset >= g->trainable)
        return UPDATE_RUNNING;
    return p->decay ? UPDATE_DECAYED : UPDATE_PLAIN;
}

struct cutter {
    struct update_piece *pieces, last; // last: still grows
    size_t count;                      // of those before
};

static void cutter_finish(struct cutter *c)
{
    if (c->last.count == 0)
        return;
    if (c->pieces != NULL)
        c->pieces[c->count] = c->last;
    c->count++;
    c->last.count = 0;
}

static void cutter_add(struct cutter *c, size_t begin, size_t end, enum update_treatment treatment)
{
    while (begin < end) {
        if (c->last.count == PIECE_MAX || c->last.treatment != treatment)
            cutter_finish(c);
        if (c->last.count == 0)
            c->last = (struct update_piece){.begin = begin, .treatment = treatment};
        CHECK(c->last.begin + c->last.count == begin); // parameters lie in the arena's order
        size_t count = sooner(end - begin, PIECE_MAX - c->last.count);
        c->last.count += (uint32_t)count;
        begin += count;
    }
}

size_t update_pieces(const struct graph *g, size_t begin, size_t end, struct update_piece *pieces)
{
    struct cutter c = {.pieces = pieces};
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        cutter_add(&c, later(begin, p->offset), sooner(end, p->offset + p->count),
                   treatment_of(g, p));
    }
    cutter_finish(&c);
    return c.count;
}
