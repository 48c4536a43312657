#include "worker/views.h"

#include "base/error.h"

struct views {
    struct rank *rank;               // borrowed
    const struct logit_store *store; // borrowed; NULL but on rank 0
    int64_t view_count, samples, classes;
    struct half {
        uint16_t *logits;   // owned, engine memory [samples, classes]
        int64_t view, rows; // which view, and how many of its rows are there
    } halves[2];
    int now;
    uint16_t *staging; // owned, host [staging_rows, classes]
    int64_t staging_rows;
};

int views_create(struct views **out, struct rank *rank, const struct logit_store *store,
                 int64_t view_count)
{
    int rc = RETORT_OK;
    struct views *v = calloc(1, sizeof *v);
    if (!v)
        return FAIL(RETORT_MEMORY, "no memory for the teacher's logits");
    v->rank = rank;
    v->store = store;
    v->view_count = view_count;
    v->samples = rank->dataset.count[SPLIT_TRAIN];
    v->classes = rank->dataset.class_count;
    v->staging_rows = 4096;
    v->staging = malloc((size_t)v->staging_rows * (size_t)v->classes * sizeof(uint16_t));
    TRY_ELSE(v->staging, RETORT_MEMORY, "no memory for the teacher's logits");
    for (int i = 0; i < 2; i++) {
        v->halves[i].view = -1;
        if (i == 1 && view_count == 1)
            break;
        v->halves[i].logits =
            engine_alloc(rank->engine, (size_t)(v->samples * v->classes) * sizeof(uint16_t));
        TRY(v->halves[i].logits ? RETORT_OK : RETORT_MEMORY); // the engine has said so
    }
    *out = v;
    return RETORT_OK;
fail:
    views_destroy(&v);
    return rc;
}

void views_destroy(struct views **p)
{
    struct views *v = *p;
    if (!v)
        return;
    for (int i = 0; i < 2; i++)
        engine_free(v->rank->engine, v->halves[i].logits);
    free(v->staging);
    free(v);
    *p = NULL;
}

// Brings rows of half `h` up to `until`.
static int bring_rows(struct views *v, struct half *h, int64_t until)
{
    int rc = RETORT_OK;
    while (h->rows < until) {
        int64_t count = until - h->rows < v->staging_rows ? until - h->rows : v->staging_rows;
        size_t bytes = (size_t)(count * v->classes) * sizeof(uint16_t);
        if (v->store)
            TRY(logit_store_read(v->store, h->view, h->rows, count, v->staging, NULL));
        TRY(comm_broadcast(v->rank->comm, v->staging, bytes, 0));
        TRY(engine_upload(v->rank->engine, h->logits + h->rows * v->classes, v->staging, bytes));
        h->rows += count;
    }
fail:
    return rc;
}

static void start_view(struct half *h, int64_t view)
{
    if (h->view != view) {
        h->view = view;
        h->rows = 0;
    }
}

int views_begin(struct views *v, int64_t view)
{
    if (v->halves[v->now].view != view && v->halves[!v->now].logits)
        v->now = !v->now;
    start_view(&v->halves[v->now], view);
    return bring_rows(v, &v->halves[v->now], v->samples);
}

int views_progress(struct views *v, int64_t next, int64_t pieces)
{
    struct half *h = &v->halves[!v->now];
    if (next == v->halves[v->now].view || !h->logits)
        return RETORT_OK;
    start_view(h, next);
    int64_t until = h->rows + (v->samples + pieces - 1) / pieces;
    return bring_rows(v, h, until < v->samples ? until : v->samples);
}

const uint16_t *views_current(const struct views *v)
{
    return v->halves[v->now].logits;
}

size_t views_memory(const struct views *v)
{
    size_t one = (size_t)(v->samples * v->classes) * sizeof(uint16_t);
    return v->halves[1].logits ? 2 * one : one;
}
