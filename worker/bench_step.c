#include "worker/bench_step.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/recipe.h"
#include "worker/device.h"
#include "worker/loss_scale.h"

enum { PICTURES = 512, PIXEL_CHANNELS = 3 };
static const double TIMEOUT_S = 120; // of a wait between GPUs

// ---- set-up

static int largest_microbatch(const struct bench_options *o)
{
    return (o->batch + o->microbatches - 1) / o->microbatches;
}

// Rank 0 times the algorithms; the others follow its plan.
static int create_network(struct bench *b)
{
    struct network_options options = {.max_batch = largest_microbatch(b->options),
                                      .training = true};
    char *plan = NULL;
    int64_t bytes = 0;
    int rc = RETORT_OK;
    if (comm_rank(b->comm) == 0) {
        rc = network_create(&b->network, b->engine, b->graph, &options);
        rc = rc ? rc : network_plan(b->network, &plan);
        bytes = rc ? 0 : (int64_t)strlen(plan) + 1;
    }
    TRY(comm_agree(b->comm, rc));
    TRY(comm_broadcast(b->comm, &bytes, sizeof bytes, 0));
    if (plan == NULL)
        plan = calloc(1, (size_t)bytes);
    TRY_ELSE(plan != NULL, RETORT_MEMORY, "no memory for an engine plan");
    TRY(comm_broadcast(b->comm, plan, (size_t)bytes, 0));
    options.plan = plan;
    if (comm_rank(b->comm) != 0)
        TRY(network_create(&b->network, b->engine, b->graph, &options));
fail:
    free(plan);
    return rc;
}

static int create_engine(struct bench *b)
{
    const struct bench_options *o = b->options;
    struct engine_options engine = {.device = o->device,
                                    .threads = o->threads,
                                    .local_rank = comm_local_rank(b->comm),
                                    .precision = o->precision,
                                    .deterministic = true};
    struct graph_options graph = {PIXEL_CHANNELS, o->size, o->size,
                                  o->classes,     o->norm, ACTIVATION_RELU};
    int rc = RETORT_OK;
    TRY(engine_open(&b->engine, &engine));
    TRY(graph_create(&b->graph, o->arch, &graph));
fail:
    return rc;
}

// Random pixels and labels: any of them costs what a picture costs.
static int create_samples(struct bench *b)
{
    const struct bench_options *o = b->options;
    size_t picture = (size_t)o->size * o->size * PIXEL_CHANNELS, bytes = PICTURES * picture;
    int rc = RETORT_OK;
    uint8_t *pixels = malloc(bytes);
    int32_t labels[PICTURES];
    b->pixels = engine_alloc(b->engine, bytes);
    b->labels = engine_alloc(b->engine, sizeof labels);
    TRY_ELSE(pixels && b->pixels && b->labels, RETORT_MEMORY, "no memory for %d pictures",
             (int)PICTURES);
    for (size_t i = 0; i < bytes; i++)
        pixels[i] = (uint8_t)random_draw(1, RANDOM_SYNTH, 0, i / 4).v[i % 4];
    for (int i = 0; i < PICTURES; i++)
        labels[i] = (int32_t)random_below(random_draw(1, RANDOM_SYNTH, 1, (uint64_t)i).v[0],
                                          (uint32_t)o->classes);
    TRY(engine_upload(b->engine, b->pixels, pixels, bytes));
    TRY(engine_upload(b->engine, b->labels, labels, sizeof labels));
fail:
    free(pixels);
    return rc;
}

static int allocate(struct bench *b, void **out, size_t count)
{
    *out = engine_alloc(b->engine, count * real_bytes(engine_real(b->engine)));
    return *out ? RETORT_OK : RETORT_MEMORY;
}

// What a run in fp16 begins with.
static int create_scale(struct bench *b)
{
    static struct recipe r; // large
    recipe_defaults(&r);
    r.run.precision = b->options->precision;
    return loss_scale_create(&b->arenas.scale, b->engine, &r);
}

static int create_arenas(struct bench *b)
{
    const struct graph *g = b->graph;
    float *initial = malloc(g->total * sizeof *initial);
    int rc = RETORT_OK;
    TRY_ELSE(initial != NULL, RETORT_MEMORY, "no memory for the weights");
    TRY(allocate(b, &b->arenas.weights, g->total));
    TRY(allocate(b, &b->arenas.gradients, g->total));
    TRY(allocate(b, &b->arenas.moment1, g->trainable));
    TRY(allocate(b, &b->arenas.ema, g->total));
    b->arenas.end = g->total;
    b->scalars = engine_alloc(b->engine, sizeof *b->scalars);
    b->sums = engine_alloc(b->engine, LOSS_SUMS * sizeof *b->sums);
    TRY_ELSE(b->scalars && b->sums, RETORT_MEMORY, "no memory for a step's scalars");
    TRY(create_scale(b));
    graph_init_weights(g, INIT_XAVIER_NORMAL, 1, initial);
    TRY(engine_from_f32(b->engine, b->arenas.weights, initial, g->total));
    TRY(engine_from_f32(b->engine, b->arenas.ema, initial, g->total));
    TRY(network_set_weights(b->network, b->arenas.weights));
fail:
    free(initial);
    return rc;
}

static int create_microbatches(struct bench *b)
{
    const struct bench_options *o = b->options;
    struct microbatches_options options = {
        .engine = b->engine,
        .comm = b->comm,
        .graph = b->graph,
        .network = b->network,
        .format = {o->size, o->size, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
        .count = (int)(b->last - b->first),
        .max_batch = largest_microbatch(o),
        .synced = o->norm == NORM_BATCH_SYNC,
        .deterministic = true,
        .gradients = b->arenas.gradients,
    };
    return microbatches_init(&b->microbatches, &options);
}

void bench_close(struct bench *b, bool agreed)
{
    recorded_destroy(&b->recorded);
    microbatches_free(&b->microbatches);
    network_destroy(&b->network);
    graph_destroy(&b->graph);
    if (b->engine == NULL)
        return;
    void *owned[] = {b->arenas.weights, b->arenas.gradients, b->arenas.moment1,
                     b->arenas.ema,     b->arenas.scale,     b->scalars,
                     b->sums,           b->labels,           b->pixels};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        engine_free(b->engine, owned[i]);
    if (agreed)
        device_disconnect(&b->gpus, b->comm);
    engine_close(&b->engine);
}

// Rank 0 goes first where all would fail alike.
int bench_open(struct bench *b)
{
    bool first = comm_rank(b->comm) == 0;
    int rc = RETORT_OK;
    comm_microbatch_range(b->options->microbatches, comm_rank(b->comm), comm_size(b->comm),
                          &b->first, &b->last);
    TRY(comm_agree(b->comm, first ? create_engine(b) : RETORT_OK));
    TRY(comm_agree(b->comm, first ? RETORT_OK : create_engine(b)));
    TRY(device_connect(&b->gpus, b->comm, b->engine, b->options->device, TIMEOUT_S));
    TRY(comm_agree(b->comm, create_network(b)));
    TRY(comm_agree(b->comm, create_samples(b)));
    TRY(comm_agree(b->comm, create_arenas(b)));
    TRY(comm_agree(b->comm, create_microbatches(b)));
fail:
    return rc;
}

// ---- the step

// As training waits, which looks at the loss.
static int wait_for_all(const struct bench *b)
{
    int rc = comm_wait(b->comm);
    return rc ? rc : engine_synchronize(b->engine);
}

// Runs `call` and adds its time to a part, while parts are timed.
#define TIMED(part, call)                                                                          \
    do {                                                                                           \
        double start_ = clock_seconds();                                                           \
        TRY(call);                                                                                 \
        if (b->microbatches.timed)                                                                 \
            TRY(wait_for_all(b));                                                                  \
        b->seconds[part] += clock_seconds() - start_;                                              \
    } while (0)

static int find_samples(void *context, int k, int64_t *sample_id, int64_t *slot, int *count)
{
    const struct bench *b = context;
    const struct bench_options *o = b->options;
    int64_t m = b->first + k;
    int64_t begin = o->batch * m / o->microbatches, end = o->batch * (m + 1) / o->microbatches;
    *count = (int)(end - begin);
    for (int i = 0; i < *count; i++)
        sample_id[i] = slot[i] = (b->step * o->batch + begin + i) % PICTURES;
    return RETORT_OK;
}

struct work {
    struct bench *b;
    struct microbatch_step microbatches;
};

// What the engine does in a step.
static int queue_step(void *context)
{
    static const struct optimizer_spec SGD = {
        .kind = OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 5e-4, .nesterov = true};
    const struct work *w = context;
    struct bench *b = w->b;
    int rc = RETORT_OK;
    TRY(engine_zero(b->engine, b->sums, LOSS_SUMS * sizeof(double)));
    TRY(microbatches_gradients(&b->microbatches, &w->microbatches));
    TIMED(BENCH_UPDATE, engine_update(b->engine, b->graph, &b->arenas, &SGD, b->scalars));
    TIMED(BENCH_SET_WEIGHTS, network_set_weights(b->network, b->arenas.weights));
fail:
    return rc;
}

bool bench_replays(const struct bench *b)
{
    return engine_stream(b->engine) != NULL && comm_capturable(b->comm);
}

static bool on_all_ranks(void *context, bool captured)
{
    const struct work *w = context;
    return !comm_any(w->b->comm, !captured);
}

static int run_step(struct work *w)
{
    static const struct record_key ONLY = {{0}}; // all steps have as many samples
    const struct record_work work = {queue_step, on_all_ranks, w};
    struct bench *b = w->b;
    int rc = RETORT_OK;
    if (b->microbatches.timed || !bench_replays(b))
        return queue_step(w);
    comm_await(b->comm, "all-reduce", b->graph->total * real_bytes(engine_real(b->engine)));
    TRY(engine_record(b->engine, &b->recorded, &ONLY, &work));
    TRY(wait_for_all(b));
fail:
    return rc;
}

int bench_step(struct bench *b)
{
    struct step_scalars now = {.lr = 1e-3,
                               .ema_decay = 0.999,
                               .bias1 = 1.0,
                               .bias2 = 1.0,
                               .inverse_batch = 1.0 / b->options->batch};
    struct work w = {b,
                     {
                         .pictures = {.pixels = b->pixels,
                                      .augment = AUGMENT_CROP_FLIP,
                                      .seed = 1,
                                      .domain = RANDOM_AUGMENT_TEACHER,
                                      .view = (uint32_t)b->step},
                         .targets = {.labels = b->labels},
                         .loss = {.kind = DISTILL_NONE, .scale = b->arenas.scale},
                         .scalars = b->scalars,
                         .sums = b->sums,
                         .samples = find_samples,
                         .context = b,
                     }};
    int rc = RETORT_OK;
    TRY(engine_upload(b->engine, b->scalars, &now, sizeof now));
    TRY(microbatches_prepare(&b->microbatches, &w.microbatches));
    TRY(run_step(&w));
    b->step++;
fail:
    return rc;
}
