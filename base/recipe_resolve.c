// What `auto` stands for, what single ranges cannot check, and what differs between two recipes.

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/processor.h"
#include "base/recipe_option.h"

enum { VIEWS_AUTO_MOST = 16 };

// Makes a path absolute from the current folder; "" stays.
static int make_absolute(char path[PATH_CAPACITY])
{
    char folder[PATH_CAPACITY], joined[PATH_CAPACITY];
    if (path[0] == '\0' || path[0] == '/')
        return RETORT_OK;
    if (!getcwd(folder, sizeof folder))
        return FAIL(RETORT_FAILED, "cannot name the current folder: %s", strerror(errno));
    int rc = path_join(joined, folder, path);
    if (rc == RETORT_OK)
        memcpy(path, joined, sizeof joined);
    return rc;
}

static int make_paths_absolute(struct recipe *r)
{
    struct option_ref o;
    int rc = RETORT_OK;
    for (size_t i = 0; rc == RETORT_OK && option_at(i, &o); i++)
        if (o.row->type == OPTION_PATH)
            rc = make_absolute((char *)r + o.offset);
    return rc;
}

// What is left to retort agrees with whatever it settled on.
static bool asks_nothing(const struct option_ref *o, const struct recipe *asked)
{
    return o->row->automatic && *(const int64_t *)((const char *)asked + o->offset) == 0;
}

int recipe_difference(const struct recipe *folder, const struct recipe *asked, char *out,
                      size_t out_bytes)
{
    struct recipe a = *folder, b = *asked;
    struct option_ref o;
    char a_text[OPTION_TEXT_CAPACITY], b_text[OPTION_TEXT_CAPACITY];
    int count = 0;
    size_t used = 0;
    if (out_bytes > 0)
        out[0] = '\0';
    // Where the current folder has no name (said by then), paths are compared as they stand.
    if (make_paths_absolute(&a) == RETORT_OK)
        make_paths_absolute(&b);
    for (size_t i = 0; option_at(i, &o); i++) {
        if (!o.row->results || asks_nothing(&o, &b))
            continue;
        option_text(&o, &a, a_text);
        option_text(&o, &b, b_text);
        if (strcmp(a_text, b_text) == 0)
            continue;
        count++;
        if (used < out_bytes)
            used += (size_t)snprintf(
                out + used, out_bytes - used, "%s: %s in the folder, %s asked for\n", o.path,
                a_text[0] ? a_text : "nothing", b_text[0] ? b_text : "nothing");
    }
    return count;
}

// A network that some stage trains.
static int check_network(const char *name, const struct network_recipe *n, int ranks)
{
    if (n->schedule.warmup_epochs > (double)n->epochs)
        return FAIL(RETORT_USAGE,
                    "%s.schedule.warmup_epochs: %g is more than the %lld of %s.epochs; shorten the "
                    "warm-up or train for longer",
                    name, n->schedule.warmup_epochs, (long long)n->epochs, name);
    if (ranks > n->batch)
        return FAIL(RETORT_USAGE,
                    "%d ranks but %s.batch is %lld: more ranks than samples in a batch; start with "
                    "--ranks %lld or fewer",
                    ranks, name, (long long)n->batch, (long long)n->batch);
    return RETORT_OK;
}

static int check_ranks(const struct recipe *r, int ranks)
{
    if (ranks > r->run.microbatches)
        return FAIL(RETORT_USAGE,
                    "%d ranks but run.microbatches is %lld: a rank computes whole micro-batches; "
                    "start with --ranks %lld or fewer, or begin a new run with "
                    "run.microbatches=%d",
                    ranks, (long long)r->run.microbatches, (long long)r->run.microbatches, ranks);
    return RETORT_OK;
}

static int check_loss_scale(const struct recipe *r)
{
    int exponent;
    if (frexp(r->run.loss_scale, &exponent) != 0.5 || exponent < -63 || exponent > 65)
        return FAIL(RETORT_USAGE,
                    "run.loss_scale: %g is no power of two from 2^-64 to 2^64; 65536 is",
                    r->run.loss_scale);
    // Whether a step is skipped depends on all gradients, and a rank would have its own range's.
    if (r->run.precision == PRECISION_FP16 &&
        (r->teacher.optimizer.shard || r->student.optimizer.shard))
        return FAIL(RETORT_USAGE,
                    "run.precision: fp16 needs all gradients on each rank; set "
                    "optimizer.shard: false, or use bf16");
    return RETORT_OK;
}

static int check_stages(const struct recipe *r)
{
    const bool *stages = r->run.stages;
    if (stages[STAGE_LOGITS] && !stages[STAGE_TEACHER] && !r->teacher.from[0])
        return FAIL(RETORT_USAGE,
                    "run.stages: logits needs a teacher; add the stage teacher, or name "
                    "a checkpoint in teacher.from");
    bool distils = stages[STAGE_STUDENT] && r->student.distill.kind != DISTILL_NONE;
    if (distils && !stages[STAGE_LOGITS] && !r->logits.path[0])
        return FAIL(RETORT_USAGE,
                    "run.stages: student needs the teacher's logits; add the stage logits, or name "
                    "a file in logits.path, or set student.distill.kind=none");
    return RETORT_OK;
}

int64_t precision_on(const char *device, int64_t asked)
{
    const bool host = strcmp(device, "cpu") == 0, wide = strcmp(device, "reference") == 0;
    if (strcmp(device, "auto") == 0)
        return asked;
    if (asked == PRECISION_AUTO && !host)
        return wide ? PRECISION_F64 : PRECISION_BF16;
    if (host && asked == PRECISION_BF16)
        return processor_gains_by_bf16() ? PRECISION_BF16 : PRECISION_F32;
    return host && asked == PRECISION_AUTO ? PRECISION_F32 : asked;
}

int recipe_resolve(struct recipe *r, int ranks, int threads)
{
    int rc = RETORT_OK;
    CHECK(ranks > 0 && threads > 0);
    if (r->run.microbatches == 0)
        r->run.microbatches = ranks;
    if (r->run.threads == 0)
        r->run.threads = threads;
    if (r->run.ranks == 0)
        r->run.ranks = ranks;
    if (r->run.precision == PRECISION_AUTO)
        r->run.precision = PRECISION_F32;
    // Baseline draws from the same views, and stages may be added later: always a number.
    if (r->logits.views == 0)
        r->logits.views = r->student.epochs < VIEWS_AUTO_MOST ? r->student.epochs : VIEWS_AUTO_MOST;
    TRY(make_paths_absolute(r));
    TRY(check_stages(r));
    TRY(check_loss_scale(r));
    if (r->run.stages[STAGE_TEACHER])
        TRY(check_network("teacher", &r->teacher, ranks));
    if (r->run.stages[STAGE_BASELINE] || r->run.stages[STAGE_STUDENT])
        TRY(check_network("student", &r->student, ranks));
    TRY(check_ranks(r, ranks));
fail:
    return rc;
}
