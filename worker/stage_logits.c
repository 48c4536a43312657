#include "worker/stage_logits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arith/half.h"
#include "base/error.h"
#include "base/log.h"
#include "data/checkpoint.h"
#include "worker/plan.h"
#include "worker/saving.h"
#include "worker/teacher_file.h"
#include "worker/trainer.h"

enum { VERIFY_ROWS = 256 };

// A block of 128 consecutive rows on its way from a rank to the file.
struct block {
    uint16_t *logits;  // [DATASET_BLOCK, classes], f16
    uint64_t *digests; // [DATASET_BLOCK]
};

static const char *logits_path(char *out, const struct rank *rank)
{
    const char *named = rank->recipe.logits.path;
    if (named[0])
        (void)snprintf(out, PATH_CAPACITY, "%s", named);
    else if (path_join(out, rank->folder, "logits.h5") != RETORT_OK)
        out[0] = '\0';
    return out;
}

static void wanted_identity(struct logit_identity *id, const struct rank *rank,
                            const struct teacher *t)
{
    const struct recipe *r = &rank->recipe;
    memset(id, 0, sizeof *id);
    id->views = r->logits.views;
    id->samples = rank->dataset.count[SPLIT_TRAIN];
    id->classes = rank->dataset.class_count;
    id->seed = rank->view_seed;
    id->augment = r->data.augment;
    id->weights = r->logits.weights;
    (void)snprintf(id->dataset, sizeof id->dataset, "%s", rank->dataset.fingerprint);
    (void)snprintf(id->teacher, sizeof id->teacher, "%s", t->checksum);
    (void)snprintf(id->precision, sizeof id->precision, "%s", rank_precision(rank));
}

int teacher_open(struct teacher *t, struct rank *rank)
{
    int rc = RETORT_OK;
    size_t bytes = 0;
    char *plan = NULL, path[PATH_CAPACITY];
    struct picture_format format;
    memset(t, 0, sizeof *t);
    TRY_IN_TURN(rank, trainer_graph(&t->graph, rank, &rank->recipe.teacher));
    CHECK(t->graph); // as agreed
    bytes = t->graph->total * real_bytes(engine_real(rank->engine));
    t->arena = engine_alloc(rank->engine, bytes);
    TRY(rank_agree(rank, t->arena ? RETORT_OK : RETORT_MEMORY));
    TRY(rank_agree(rank, teacher_path(path, rank)));
    TRY_IN_TURN(rank, teacher_file_read(rank, t->graph, t->arena, t->checksum, &plan, &format));
    TRY(rank_same_file(rank, path, t->checksum));
    TRY(plan_complete(&plan, rank, t->graph, DATASET_BLOCK));
    struct network_options options = {.max_batch = DATASET_BLOCK, .plan = plan};
    rc = network_create(&t->network, rank->engine, t->graph, &options);
    if (rc == RETORT_OK)
        rc = input_create(&t->input, rank->engine, &format, DATASET_BLOCK);
    if (rc == RETORT_OK)
        rc = network_set_weights(t->network, t->arena);
    TRY(rank_agree(rank, rc));
fail:
    free(plan);
    return rc;
}

void teacher_close(struct teacher *t, struct rank *rank)
{
    network_destroy(&t->network);
    input_destroy(&t->input);
    engine_free(rank->engine, t->arena);
    graph_destroy(&t->graph);
    t->arena = NULL;
}

// Rows ids[count] of this rank's file range, as the student sees them in `view`; padded to a block.
static int compute_rows(struct block *out, struct rank *rank, struct teacher *t, uint32_t view,
                        const int64_t *ids, int64_t count)
{
    int64_t first, last, id[DATASET_BLOCK], slot[DATASET_BLOCK];
    int rc = RETORT_OK;
    shard_range(rank->train, &first, &last);
    for (int64_t i = 0; i < DATASET_BLOCK; i++) {
        id[i] = ids[i < count ? i : 0];
        slot[i] = id[i] - first;
    }
    struct picture_batch batch = {
        .pixels = shard_pixels(rank->train),
        .slot = slot,
        .sample_id = id,
        .count = DATASET_BLOCK,
        .augment = (enum augment_kind)rank->recipe.data.augment,
        .seed = rank->view_seed,
        .domain = RANDOM_AUGMENT_STUDENT,
        .view = view,
    };
    TRY(input_load(t->input, &batch, out->digests));
    TRY(network_forward(t->network, t->input, FORWARD_EVAL));
    TRY(network_logits_f16(t->network, out->logits));
fail:
    return rc;
}

static int64_t rows_in_block(struct rank *rank, int r, int64_t round, int64_t *row)
{
    int64_t first, last;
    shard_rows(rank->dataset.count[SPLIT_TRAIN], r, comm_size(rank->comm), &first, &last);
    *row = first + round * DATASET_BLOCK;
    int64_t left = last - *row;
    return left < 0 ? 0 : left < DATASET_BLOCK ? left : DATASET_BLOCK;
}

// One block of every rank, to rank 0 and into the file.
static int store_round(struct logit_writer *writer, struct rank *rank, const struct block *mine,
                       struct block *all, int64_t round)
{
    enum { RANKS_AT_MOST = 4096 };
    static size_t counts[RANKS_AT_MOST], offsets[RANKS_AT_MOST];
    int size = comm_size(rank->comm), rc = RETORT_OK;
    size_t logit_bytes = (size_t)rank->dataset.class_count * sizeof(uint16_t);
    size_t rows_before = 0;
    int64_t row, own = rows_in_block(rank, comm_rank(rank->comm), round, &row);
    CHECK(size <= RANKS_AT_MOST);
    for (int pass = 0; pass < 2; pass++) {
        size_t unit = pass == 0 ? logit_bytes : sizeof(uint64_t);
        rows_before = 0;
        for (int r = 0; r < size; r++) {
            size_t rows = (size_t)rows_in_block(rank, r, round, &row);
            counts[r] = rows * unit;
            offsets[r] = rows_before * unit;
            rows_before += rows;
        }
        TRY(comm_gatherv(rank->comm, pass == 0 ? (void *)mine->logits : (void *)mine->digests,
                         (size_t)own * unit, pass == 0 ? (void *)all->logits : (void *)all->digests,
                         counts, offsets, 0));
    }
    rows_before = 0;
    for (int r = 0; writer && r < size; r++) {
        int64_t rows = rows_in_block(rank, r, round, &row);
        if (rows == 0)
            continue;
        TRY(logit_writer_put(writer, row, rows,
                             all->logits + rows_before * (size_t)rank->dataset.class_count,
                             all->digests + rows_before));
        rows_before += (size_t)rows;
    }
fail:
    return rc;
}

static int vote_to_stop(struct rank *rank)
{
    if (!comm_any(rank->comm, stop_requested(rank)))
        return RETORT_OK;
    log_info(
        "stopped on request in the logit pass; finished views are kept; run the same command "
        "to go on");
    rank->agreed = true;
    return RETORT_STOPPED;
}

static int compute_view(struct logit_writer *writer, struct rank *rank, struct teacher *t,
                        struct block *mine, struct block *all, int64_t view)
{
    struct progress bar;
    char what[64];
    int64_t row, most = 0, ids[DATASET_BLOCK];
    int rc = RETORT_OK;
    for (int r = 0; r < comm_size(rank->comm); r++) {
        int64_t first, last;
        shard_rows(rank->dataset.count[SPLIT_TRAIN], r, comm_size(rank->comm), &first, &last);
        most = last - first > most ? last - first : most;
    }
    int64_t rounds = (most + DATASET_BLOCK - 1) / DATASET_BLOCK;
    (void)snprintf(what, sizeof what, "logits view %lld/%lld", (long long)view + 1,
                   (long long)rank->recipe.logits.views);
    watchdog_phase(rank->watchdog, what);
    progress_init(&bar, what, rounds);
    for (int64_t round = 0; round < rounds; round++) {
        int64_t count = rows_in_block(rank, comm_rank(rank->comm), round, &row);
        for (int64_t i = 0; i < count; i++)
            ids[i] = row + i;
        watchdog_step(rank->watchdog, round);
        if (count > 0)
            TRY(compute_rows(mine, rank, t, (uint32_t)view, ids, count));
        TRY(store_round(writer, rank, mine, all, round));
        TRY(vote_to_stop(rank));
        if (rank_is_first(rank))
            progress_update(&bar, round + 1, NULL);
    }
fail:
    progress_end(&bar);
    return rc;
}

static int open_block(struct block *b, const struct rank *rank, int64_t blocks)
{
    size_t rows = (size_t)(blocks * DATASET_BLOCK);
    b->logits = malloc(rows * (size_t)rank->dataset.class_count * sizeof *b->logits);
    b->digests = malloc(rows * sizeof *b->digests);
    return b->logits && b->digests ? RETORT_OK
                                   : FAIL(RETORT_MEMORY, "no memory for the logit pass");
}

static void close_block(struct block *b)
{
    free(b->logits);
    free(b->digests);
}

// summary.json's `logits`: what the views made so far took, over all starts. Rank 0 writes.
static int record_view(struct rank *rank, const struct logit_identity *id, int64_t view,
                       double seconds)
{
    struct metrics *m = rank->metrics;
    double all = seconds, views = (double)view + 1;
    if (view > 0)
        all += json_number_value(json_object_get(summary_get(m, "logits"), "seconds"));
    log_info("logits   view %lld/%lld  %.0f images/s", (long long)view + 1, (long long)id->views,
             (double)id->samples / seconds);
    summary_set(m, "logits",
                json_pack("{s:I,s:f,s:f}", "views", (json_int_t)view + 1, "images_per_s",
                          views * (double)id->samples / all, "seconds", all));
    return summary_clock(m);
}

static int compute_all(struct rank *rank, struct teacher *t, const char *path,
                       const struct logit_identity *id)
{
    struct logit_writer *writer = NULL;
    struct block mine = {0}, all = {0};
    int64_t next = 0;
    int rc = open_block(&mine, rank, 1);
    if (rc == RETORT_OK)
        rc = open_block(&all, rank, comm_size(rank->comm));
    if (rc == RETORT_OK && rank_is_first(rank))
        rc = logit_writer_create(&writer, path, id, &next);
    TRY(rank_agree(rank, rc));
    TRY(comm_broadcast(rank->comm, &next, sizeof next, 0));
    for (int64_t view = next; view < id->views; view++) {
        double start = clock_seconds();
        TRY(compute_view(writer, rank, t, &mine, &all, view));
        TRY(rank_agree(rank, writer ? rank_check_owner(rank) : RETORT_OK));
        TRY(rank_agree(rank, writer ? logit_writer_end_view(writer) : RETORT_OK));
        TRY(rank_agree(rank, record_view(rank, id, view, clock_seconds() - start)));
    }
    rc = writer ? logit_writer_commit(&writer) : RETORT_OK;
    TRY(rank_agree(rank, rc));
fail:
    logit_writer_discard(&writer);
    close_block(&mine);
    close_block(&all);
    return rc;
}

// Rank 0's word on whether the store at `path` fits: 1, 0, or a code when a named one does not.
static int judge_store(const struct rank *rank, const char *path, const struct logit_identity *id,
                       bool *fits)
{
    struct logit_store store;
    char why[256] = "it is damaged";
    bool named = rank->recipe.logits.path[0] != '\0';
    *fits = false;
    if (!file_exists(path)) {
        if (named)
            return FAIL(RETORT_INPUT, "logits.path: no such file: %s", path);
        return RETORT_OK;
    }
    if (logit_store_open(&store, path, !named) == RETORT_OK) {
        *fits = logit_identity_matches(&store.identity, id, why, sizeof why);
        logit_store_close(&store);
    } else if (named) {
        return RETORT_INPUT;
    }
    if (*fits)
        return named ? RETORT_OK : logit_parts_remove(path);
    if (named)
        return FAIL(RETORT_INPUT, "%s does not fit this run: %s differs", path, why);
    int rc = student_check_saved(rank, id->teacher); // before what it began with is overwritten
    if (rc == RETORT_OK)
        log_warn("%s does not fit any more (%s): its logits are computed again", path, why);
    return rc;
}

int stage_logits(struct rank *rank)
{
    char path[PATH_CAPACITY];
    struct teacher t;
    struct logit_identity id;
    bool fits = false;
    int rc = RETORT_OK;
    TRY(teacher_open(&t, rank));
    wanted_identity(&id, rank, &t);
    logits_path(path, rank);
    if (rank_is_first(rank))
        rc = judge_store(rank, path, &id, &fits);
    TRY(rank_agree(rank, rc));
    fits = comm_any(rank->comm, fits);
    if (fits)
        log_info("logits   %s is whole and fits", path);
    else {
        TRY(shard_restore(rank->train, &rank->dataset));
        TRY(compute_all(rank, &t, path, &id));
    }
fail:
    teacher_close(&t, rank);
    return rc;
}

// The first row of this rank that is not what is stored: several ranks may have one, one speaks.
struct misfit {
    bool found, pixels; // of other pixels; else of other logits
    int64_t view, row;
    double off, allowed; // of the row's largest
};

static void compare_row(struct misfit *m, const struct rank *rank, const struct block *now,
                        const struct block *stored, int64_t i)
{
    int64_t classes = rank->dataset.class_count;
    double largest = 0, worst = 0;
    for (int64_t c = 0; c < classes; c++) {
        double a = half_to_double(now->logits[i * classes + c]);
        double b = half_to_double(stored->logits[c]);
        largest = fmax(largest, fabs(a));
        worst = fmax(worst, fabs(a - b));
    }
    m->pixels = now->digests[i] != stored->digests[0];
    m->off = worst / largest;
    m->found = m->pixels || !(worst <= m->allowed * largest);
}

static int say_misfit(const struct misfit *m, const struct logit_store *store)
{
    if (m->pixels)
        return FAIL(RETORT_INPUT,
                    "the stored logits of view %lld, sample %lld belong to other pixels; remove %s",
                    (long long)m->view, (long long)m->row, store->file.path);
    return FAIL(RETORT_INPUT,
                "the stored logits of view %lld, sample %lld are off by %.3g of the row's largest "
                "(%.3g allowed): they are of another teacher or other pixels; remove %s",
                (long long)m->view, (long long)m->row, m->off, m->allowed, store->file.path);
}

// A block of seeded rows of this rank's range, of m's view, against the store.
static int verify_block(struct misfit *m, const struct logit_store *store, struct rank *rank,
                        struct teacher *t, struct block *now, struct block *stored, int64_t count)
{
    int64_t first, last, ids[DATASET_BLOCK];
    int rc = RETORT_OK;
    shard_range(rank->train, &first, &last);
    for (int64_t i = 0; i < count; i++) {
        struct random_block r = random_draw((uint64_t)rank->recipe.run.seed, RANDOM_VERIFY,
                                            (uint32_t)m->view, (uint64_t)(first + i));
        ids[i] = first + (int64_t)random_below(r.v[0], (uint32_t)(last - first));
    }
    TRY(compute_rows(now, rank, t, (uint32_t)m->view, ids, count));
    for (int64_t i = 0; !m->found && i < count; i++) {
        m->row = ids[i];
        TRY(logit_store_read(store, m->view, m->row, 1, stored->logits, stored->digests));
        compare_row(m, rank, now, stored, i);
    }
fail:
    return rc;
}

// A small data set has fewer blocks than there are ranks.
static int64_t ranks_with_rows(const struct rank *rank)
{
    int64_t first, last, ranks = 0;
    for (int r = 0; r < comm_size(rank->comm); r++) {
        shard_rows(rank->dataset.count[SPLIT_TRAIN], r, comm_size(rank->comm), &first, &last);
        ranks += last > first;
    }
    return ranks;
}

static int verify_rows(struct misfit *m, const struct logit_store *store, struct rank *rank,
                       struct teacher *t)
{
    struct block now = {0}, stored = {0};
    int64_t first, last, views = rank->recipe.logits.views;
    int64_t share = views * ranks_with_rows(rank);
    const char *own = rank_precision(rank);
    CHECK(share > 0); // a data set has rows, a store views
    int64_t count = (VERIFY_ROWS + share - 1) / share;
    int rc = RETORT_OK;
    shard_range(rank->train, &first, &last);
    *m = (struct misfit){.allowed = strcmp(store->identity.precision, own) == 0 ? 0.02 : 0.05};
    TRY(open_block(&now, rank, 1));
    TRY(open_block(&stored, rank, 1));
    for (int64_t view = 0; !m->found && last > first && view < views; view++) {
        m->view = view;
        for (int64_t left = count; !m->found && left > 0; left -= DATASET_BLOCK)
            TRY(verify_block(m, store, rank, t, &now, &stored,
                             left < DATASET_BLOCK ? left : DATASET_BLOCK));
    }
fail:
    close_block(&now);
    close_block(&stored);
    return rc;
}

static int open_fitting(struct logit_store *store, const struct rank *rank, const struct teacher *t)
{
    char path[PATH_CAPACITY], why[256];
    struct logit_identity id;
    int rc = logit_store_open(store, logits_path(path, rank), false);
    if (rc != RETORT_OK)
        return rc;
    wanted_identity(&id, rank, t);
    if (logit_identity_matches(&store->identity, &id, why, sizeof why))
        return RETORT_OK;
    return FAIL(RETORT_INPUT, "%s does not fit this run: %s differs; run stage logits again", path,
                why);
}

int logits_open_verified(struct logit_store *store, struct rank *rank, const struct teacher *t)
{
    struct teacher teacher = *t;
    struct misfit misfit;
    int rc = RETORT_OK;
    TRY_IN_TURN(rank, open_fitting(store, rank, t));
    TRY(shard_restore(rank->train, &rank->dataset));
    TRY(rank_agree(rank, verify_rows(&misfit, store, rank, &teacher)));
    if (rank_speaks(rank, misfit.found))
        rc = say_misfit(&misfit, store);
    TRY(rank_agree(rank, rc));
fail:
    return rc;
}
