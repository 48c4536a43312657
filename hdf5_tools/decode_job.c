#include "hdf5_tools/decode_job.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/picture.h"

struct decode_job {
    struct decode_settings settings;
    struct permutation order[SPLIT_COUNT]; // row to item
    pthread_t *threads;
    int thread_count;
    struct decode_block *blocks; // [block_count], owned; the lists below link them
    int block_count;

    pthread_mutex_t lock; // of all below
    pthread_cond_t changed;
    struct decode_block *empty, *full;
    enum dataset_split next_split;
    int64_t next_row;
    int64_t open_blocks; // not yet taken
    bool stop;
    int rc; // of the first failure
    char why[2 * PATH_CAPACITY];
};

static int bad_picture(const struct source *s, const char *path, const char *why, char *out,
                       size_t out_bytes)
{
    snprintf(out, out_bytes, "%s: cannot decode %s: %s; --skip-bad leaves such pictures out",
             s->location, path, why);
    return RETORT_INPUT;
}

// Loads and decodes; `why` is only the cause.
static int decode_entry(const struct source *s, const struct source_entry *e, int size,
                        struct picture *p, char why[PICTURE_WHY])
{
    struct source_bytes bytes;
    *p = (struct picture){0};
    int rc = source_load(s, e, &bytes, why, PICTURE_WHY);
    if (rc != RETORT_OK)
        return rc;
    rc = picture_decode(bytes.data, bytes.count, size, p, why);
    free(bytes.owned);
    return rc;
}

// One picture into a row of a block; `why` becomes the whole message.
static int decode_item(const struct decode_settings *g, const struct image_item *item, uint8_t *row,
                       char *why, size_t why_bytes)
{
    struct picture p;
    char cause[PICTURE_WHY];
    int rc = decode_entry(g->source, item->entry, g->size, &p, cause);
    if (rc == RETORT_OK && g->size > 0)
        rc = picture_resize(&p, g->size, row, cause);
    if (rc != RETORT_OK) {
        rc = rc == RETORT_INPUT ? rc : RETORT_MEMORY;
        bad_picture(g->source, item->entry->path, cause, why, why_bytes);
    } else if (g->size == 0 && (p.height != g->height || p.width != g->width)) {
        snprintf(why, why_bytes,
                 "%s: %s has %d x %d pixels, the first picture %d x %d; give a --size to resize "
                 "them all",
                 g->source->location, item->entry->path, p.width, p.height, g->width, g->height);
        rc = RETORT_INPUT;
    } else if (g->size == 0) {
        memcpy(row, p.pixels, (size_t)p.height * (size_t)p.width * 3);
    }
    picture_free(&p);
    return rc;
}

// Takes an empty block and the next rows to fill; NULL when there is nothing left to do.
static struct decode_block *claim_block(struct decode_job *job)
{
    struct decode_block *b = NULL;
    pthread_mutex_lock(&job->lock);
    while (!job->stop && job->next_split < SPLIT_COUNT && !job->empty)
        pthread_cond_wait(&job->changed, &job->lock);
    if (!job->stop && job->next_split < SPLIT_COUNT) {
        b = job->empty;
        job->empty = b->next;
        int64_t count = job->settings.folder->count[job->next_split];
        b->split = job->next_split;
        b->first = job->next_row;
        b->count = count - b->first < DATASET_BLOCK ? count - b->first : DATASET_BLOCK;
        job->next_row += b->count;
        if (job->next_row == count) {
            job->next_split++;
            job->next_row = 0;
            pthread_cond_broadcast(&job->changed); // those who wait for a block in vain
        }
    }
    pthread_mutex_unlock(&job->lock);
    return b;
}

static void *decode_blocks(void *argument)
{
    struct decode_job *job = argument;
    const struct decode_settings *g = &job->settings;
    const size_t row_bytes = (size_t)g->height * (size_t)g->width * 3;
    char why[2 * PATH_CAPACITY];
    for (struct decode_block *b; (b = claim_block(job)) != NULL;) {
        int rc = RETORT_OK;
        for (int64_t i = 0; rc == RETORT_OK && i < b->count; i++) {
            uint64_t at = permutation_apply(&job->order[b->split], (uint64_t)(b->first + i));
            const struct image_item *item = &g->folder->items[b->split][at];
            b->labels[i] = item->label;
            rc = decode_item(g, item, b->pixels + (size_t)i * row_bytes, why, sizeof why);
        }
        pthread_mutex_lock(&job->lock);
        b->next = job->full;
        job->full = b;
        if (rc != RETORT_OK && job->rc == RETORT_OK) {
            job->rc = rc;
            job->stop = true;
            memcpy(job->why, why, sizeof why);
        }
        pthread_cond_broadcast(&job->changed);
        pthread_mutex_unlock(&job->lock);
    }
    return NULL;
}

// Refuses at once what would be killed later, where memory is promised before it is there.
static int check_memory(const struct decode_settings *g, int block_count)
{
    double picture = (double)g->height * g->width * 3,
           needed = picture * DATASET_BLOCK * block_count;
    char text[32];
    if (needed <= (double)memory_bytes() / 2)
        return RETORT_OK;
    format_bytes(needed, text, sizeof text);
    return FAIL(RETORT_MEMORY,
                "pictures of %d x %d pixels need %s while %d threads decode them; give a smaller "
                "--size or fewer --threads",
                g->width, g->height, text, g->threads);
}

static int allocate_blocks(struct decode_job *job)
{
    const struct decode_settings *g = &job->settings;
    job->block_count = g->threads + 2; // some wait to be written while all threads are busy
    int rc = check_memory(g, job->block_count);
    if (rc != RETORT_OK)
        return rc;
    job->blocks = calloc((size_t)job->block_count, sizeof *job->blocks);
    job->threads = calloc((size_t)g->threads, sizeof *job->threads);
    bool fits = job->blocks && job->threads;
    for (int i = 0; fits && i < job->block_count; i++) {
        struct decode_block *b = &job->blocks[i];
        b->pixels = malloc((size_t)DATASET_BLOCK * (size_t)g->height * (size_t)g->width * 3);
        b->labels = malloc(DATASET_BLOCK * sizeof *b->labels);
        fits = b->pixels && b->labels;
        b->next = job->empty;
        job->empty = b;
    }
    return fits ? RETORT_OK : FAIL(RETORT_MEMORY, "out of memory: fewer --threads need less");
}

int decode_job_start(struct decode_job **out, const struct decode_settings *settings)
{
    struct decode_job *job = *out = calloc(1, sizeof *job);
    if (!job)
        return FAIL(RETORT_MEMORY, "out of memory");
    job->settings = *settings;
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->changed, NULL);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        int64_t count = settings->folder->count[s];
        permutation_init(&job->order[s], settings->seed, RANDOM_PACK, (uint32_t)s, (uint64_t)count);
        job->open_blocks += dataset_block_count(count);
    }
    int rc = allocate_blocks(job);
    for (int i = 0; rc == RETORT_OK && i < settings->threads; i++) {
        int error = pthread_create(&job->threads[i], NULL, decode_blocks, job);
        if (error)
            rc = FAIL(RETORT_FAILED, "cannot start a thread: %s", strerror(error));
        else
            job->thread_count++;
    }
    if (rc != RETORT_OK)
        decode_job_finish(out);
    return rc;
}

int decode_job_take(struct decode_job *job, struct decode_block **out)
{
    pthread_mutex_lock(&job->lock);
    while (job->rc == RETORT_OK && !job->full && job->open_blocks > 0)
        pthread_cond_wait(&job->changed, &job->lock);
    int rc = job->rc;
    *out = NULL;
    if (rc == RETORT_OK && job->open_blocks > 0) {
        *out = job->full;
        job->full = job->full->next;
        job->open_blocks--;
    }
    pthread_mutex_unlock(&job->lock);
    return rc == RETORT_OK ? rc : FAIL(rc, "%s", job->why);
}

void decode_job_return(struct decode_job *job, struct decode_block *block)
{
    pthread_mutex_lock(&job->lock);
    block->next = job->empty;
    job->empty = block;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

void decode_job_finish(struct decode_job **finished)
{
    struct decode_job *job = *finished;
    *finished = NULL;
    if (!job)
        return;
    pthread_mutex_lock(&job->lock);
    job->stop = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    for (int i = 0; i < job->thread_count; i++)
        pthread_join(job->threads[i], NULL);
    for (int i = 0; job->blocks && i < job->block_count; i++) {
        free(job->blocks[i].pixels);
        free(job->blocks[i].labels);
    }
    free(job->blocks);
    free(job->threads);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    free(job);
}

int decode_first_size(const struct source *source, const struct image_folder *folder,
                      enum dataset_split split, int *height, int *width)
{
    const struct source_entry *e = folder->items[split][0].entry;
    struct picture p;
    char why[PICTURE_WHY], text[2 * PATH_CAPACITY];
    int rc = decode_entry(source, e, 0, &p, why);
    if (rc != RETORT_OK) {
        bad_picture(source, e->path, why, text, sizeof text);
        return FAIL(rc, "%s", text);
    }
    *height = p.height;
    *width = p.width;
    picture_free(&p);
    return RETORT_OK;
}

// Trying pictures: what the threads of decode_drop_bad share.
struct trial {
    const struct source *source;
    const struct image_item *items;
    int64_t count;
    atomic_int_least64_t next, done;
    char **why; // [count], NULL for a good picture; owned
};

static void *try_pictures(void *argument)
{
    struct trial *t = argument;
    for (int64_t i; (i = atomic_fetch_add(&t->next, 1)) < t->count; atomic_fetch_add(&t->done, 1)) {
        struct picture p;
        char why[PICTURE_WHY];
        if (decode_entry(t->source, t->items[i].entry, 0, &p, why) != RETORT_OK)
            t->why[i] = strdup(why);
        picture_free(&p);
    }
    return NULL;
}

static int run_trial(struct trial *t, int threads)
{
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    if (!ids)
        return FAIL(RETORT_MEMORY, "out of memory");
    int started = 0, error = 0;
    while (started < threads && (error = pthread_create(&ids[started], NULL, try_pictures, t)) == 0)
        started++;
    struct progress progress;
    progress_init(&progress, "checking", t->count);
    const struct timespec pause = {.tv_nsec = 50000000};
    while (started > 0 && atomic_load(&t->done) < t->count) {
        progress_update(&progress, atomic_load(&t->done), NULL);
        nanosleep(&pause, NULL);
    }
    progress_end(&progress);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    free(ids);
    return started > 0 ? RETORT_OK
                       : FAIL(RETORT_FAILED, "cannot start a thread: %s", strerror(error));
}

int decode_drop_bad(const struct source *source, struct image_folder *folder,
                    enum dataset_split split, int threads, int64_t *skipped)
{
    struct image_item *items = folder->items[split];
    struct trial t = {.source = source, .items = items, .count = folder->count[split]};
    t.why = calloc((size_t)t.count + 1, sizeof *t.why);
    if (!t.why)
        return FAIL(RETORT_MEMORY, "out of memory");
    int rc = run_trial(&t, threads);
    int64_t kept = 0;
    for (int64_t i = 0; i < t.count; i++) {
        if (rc == RETORT_OK && t.why[i])
            log_warn("left out %s: %s", items[i].entry->path, t.why[i]);
        else
            items[kept++] = items[i];
        free(t.why[i]);
    }
    free(t.why);
    *skipped += folder->count[split] - kept;
    folder->count[split] = kept;
    return rc;
}
