#include "worker/trainer.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/loss_scale.h"
#include "worker/network_file.h"
#include "worker/own_range.h"
#include "worker/plan.h"

int stage_folder(char *out, const struct rank *rank, enum stage stage)
{
    return path_join(out, rank->folder, stage_name(stage));
}

int trainer_graph(struct graph **out, const struct rank *rank, const struct network_recipe *recipe)
{
    const struct dataset *d = &rank->dataset;
    return network_graph(out, recipe, d->height, d->width, d->class_count);
}

void stage_view(const struct recipe *r, enum stage stage, int64_t epoch, enum random_domain *domain,
                uint32_t *view)
{
    if (stage == STAGE_TEACHER) {
        *domain = RANDOM_AUGMENT_TEACHER;
        *view = (uint32_t)epoch;
    } else {
        *domain = RANDOM_AUGMENT_STUDENT;
        *view = (uint32_t)(epoch % r->logits.views);
    }
}

struct sampler stage_sampler(const struct rank *rank, enum stage stage)
{
    const struct recipe *r = &rank->recipe;
    return (struct sampler){
        .count = rank->dataset.count[SPLIT_TRAIN],
        .batch = recipe_network(r, stage)->batch,
        .microbatches = r->run.microbatches,
        .rank = comm_rank(rank->comm),
        .size = comm_size(rank->comm),
        .shuffle = r->data.shuffle,
        .seed = (uint64_t)r->run.seed,
    };
}

static void describe_sampler(struct trainer *t)
{
    t->sampler = stage_sampler(t->rank, t->stage);
    bool distils = t->stage == STAGE_STUDENT && t->views;
    t->loss = (struct loss_spec){
        .kind = distils ? t->recipe->distill.kind : DISTILL_NONE,
        .reduction = t->recipe->distill.reduction,
        .temperature = t->recipe->distill.temperature,
        .alpha = t->recipe->distill.alpha,
        .label_smoothing = t->recipe->label_smoothing,
    };
}

// Over all ranks: engine plans depend on it, and all follow one.
static int64_t largest_microbatch(const struct sampler *s)
{
    int64_t largest = 1;
    struct sampler of = *s;
    for (of.rank = 0; of.rank < s->size; of.rank++) {
        int64_t one = sampler_largest_microbatch(&of);
        largest = one > largest ? one : largest;
    }
    return largest;
}

static struct picture_format picture_format(const struct rank *rank)
{
    struct picture_format format = {.height = rank->dataset.height, .width = rank->dataset.width};
    memcpy(format.mean, rank->dataset.mean, sizeof format.mean);
    memcpy(format.deviation, rank->dataset.deviation, sizeof format.deviation);
    return format;
}

static int create_networks(struct trainer *t)
{
    struct rank *rank = t->rank;
    int max_batch = (int)largest_microbatch(&t->sampler);
    struct picture_format format = picture_format(rank);
    int rc = RETORT_OK;
    TRY_IN_TURN(rank, trainer_graph(&t->graph, rank, t->recipe));
    TRY(plan_network(&t->network, &t->plan, rank, t->graph, max_batch, t->stage));
    struct network_options options = {.max_batch = DATASET_BLOCK, .plan = t->plan};
    TRY(network_create(&t->evaluator, rank->engine, t->graph, &options));
    TRY(input_create(&t->eval_input, rank->engine, &format, DATASET_BLOCK));
fail:
    return rc;
}

// An arena of `count` elements; a rank whose range is empty has one too, of none.
static int allocate(struct trainer *t, void **out, size_t count)
{
    *out = engine_alloc(t->rank->engine, count * real_bytes(engine_real(t->rank->engine)));
    return *out ? RETORT_OK : RETORT_MEMORY;
}

static int create_arenas(struct trainer *t)
{
    const struct graph *g = t->graph;
    CHECK(g);
    int rc = RETORT_OK;
    TRY(allocate(t, &t->arenas.weights, g->total));
    TRY(allocate(t, &t->arenas.gradients, g->total));
    own_range_init(t);
    const size_t moments = own_range_of(t, g->trainable).count;
    TRY(allocate(t, &t->arenas.moment1, moments));
    if (t->recipe->optimizer.kind == OPTIMIZER_ADAMW)
        TRY(allocate(t, &t->arenas.moment2, moments));
    if (t->recipe->ema.enabled)
        TRY(allocate(t, &t->arenas.ema, own_range_of(t, g->total).count));
fail:
    return rc;
}

static int create_microbatches(struct trainer *t)
{
    struct rank *rank = t->rank;
    int64_t first, last;
    sampler_own(&t->sampler, &first, &last);
    struct microbatches_options options = {
        .engine = rank->engine,
        .comm = rank->comm,
        .graph = t->graph,
        .network = t->network,
        .format = picture_format(rank),
        .count = (int)(last - first),
        .max_batch = (int)largest_microbatch(&t->sampler),
        .synced = t->recipe->norm == NORM_BATCH_SYNC,
        .deterministic = rank->recipe.run.deterministic,
        .sharded = t->sharded,
        .gradients = t->arenas.gradients,
    };
    return microbatches_init(&t->microbatches, &options);
}

static int create_buffers(struct trainer *t)
{
    struct engine *e = t->rank->engine;
    size_t labels_bytes = (size_t)t->sampler.count * sizeof(int32_t);
    int rc = RETORT_MEMORY;
    t->scalars = engine_alloc(e, sizeof *t->scalars);
    t->sums = engine_alloc(e, LOSS_SUMS * sizeof *t->sums);
    t->labels = engine_alloc(e, labels_bytes);
    if (!t->scalars || !t->sums || !t->labels)
        return rc; // the engine has said so
    TRY(loss_scale_create(&t->arenas.scale, e, &t->rank->recipe));
    t->loss.scale = t->arenas.scale;
    TRY(engine_upload(e, t->labels, shard_labels(t->rank->train), labels_bytes));
fail:
    return rc;
}

static int fill_weights(struct trainer *t)
{
    const struct graph *g = t->graph;
    const struct own_range own = own_range_of(t, g->total);
    struct engine *e = t->rank->engine;
    int rc = RETORT_OK;
    float *initial = malloc(g->total * sizeof *initial);
    if (!initial)
        return FAIL(RETORT_MEMORY, "no memory for the weights");
    // The student's two stages start from one draw, so that the gain is the teacher's.
    uint64_t seed = (uint64_t)t->rank->recipe.run.seed * 2 + (t->stage != STAGE_TEACHER);
    graph_init_weights(g, (enum init_kind)t->recipe->init, seed, initial);
    TRY(engine_from_f32(e, t->arenas.weights, initial, g->total));
    if (t->arenas.ema)
        TRY(engine_from_f32(e, t->arenas.ema, initial + own.begin, own.count));
    TRY(network_set_weights(t->network, t->arenas.weights));
fail:
    free(initial);
    return rc;
}

int trainer_create(struct trainer **out, struct rank *rank, enum stage stage, struct views *views)
{
    int rc = RETORT_OK;
    struct trainer *t = calloc(1, sizeof *t);
    *out = t;
    if (t) {
        t->rank = rank;
        t->stage = stage;
        t->recipe = recipe_network(&rank->recipe, stage);
        t->views = views;
        t->finite = true;
        describe_sampler(t);
    }
    TRY(rank_agree(rank, t ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for a trainer")));
    CHECK(t); // as agreed
    TRY(rank_agree(rank, create_networks(t)));
    TRY(rank_agree(rank, create_arenas(t)));
    TRY(rank_agree(rank, create_microbatches(t)));
    TRY(rank_agree(rank, create_buffers(t)));
    TRY(rank_agree(rank, fill_weights(t)));
    return RETORT_OK;
fail:
    trainer_destroy(out);
    return rc;
}

void trainer_destroy(struct trainer **p)
{
    struct trainer *t = *p;
    if (!t)
        return;
    struct engine *e = t->rank->engine;
    recorded_destroy(&t->recorded);
    microbatches_free(&t->microbatches);
    network_destroy(&t->evaluator);
    network_destroy(&t->network);
    input_destroy(&t->eval_input);
    engine_free(e, t->arenas.weights);
    engine_free(e, t->arenas.gradients);
    engine_free(e, t->arenas.moment1);
    engine_free(e, t->arenas.moment2);
    engine_free(e, t->arenas.ema);
    engine_free(e, t->arenas.scale);
    engine_free(e, t->scalars);
    engine_free(e, t->sums);
    engine_free(e, t->labels);
    free(t->plan);
    graph_destroy(&t->graph);
    free(t);
    *p = NULL;
}
