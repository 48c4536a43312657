#include "worker/bench.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/log.h"
#include "base/recipe.h"
#include "models/engine.h"
#include "worker/device.h"
#include "worker/loss_scale.h"
#include "worker/microbatches.h"

enum { PICTURES = 512, WARM_UP_STEPS = 2, PIXEL_CHANNELS = 3 };
static const double TIMEOUT_S = 120; // of a wait between GPUs

struct bench {
    const struct bench_options *options;
    struct comm *comm;
    struct engine *engine;
    struct device_comm *gpus;
    struct graph *graph;
    struct network *network;
    struct microbatches microbatches;
    struct arenas arenas;
    struct step_scalars *scalars;
    double *sums;
    int32_t *labels;
    uint8_t *pixels;
    struct recorded *recorded; // the step, where the engine replays it
    int64_t first, last;       // this rank's micro-batches
    int64_t step;
    double seconds[BENCH_PARTS]; // from MICROBATCH_PARTS on
};

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

// `agreed`: the other ranks close too.
static void bench_close(struct bench *b, bool agreed)
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

// Collective. Leaves with one code. Rank 0 goes first where all would fail alike.
static int bench_open(struct bench *b)
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
    TIMED(BENCH_ALLREDUCE, comm_allreduce_sum(b->comm, b->arenas.gradients, b->graph->total,
                                              engine_real(b->engine), true));
    TIMED(BENCH_UPDATE, engine_update(b->engine, b->graph, &b->arenas, &SGD, b->scalars));
    TIMED(BENCH_SET_WEIGHTS, network_set_weights(b->network, b->arenas.weights));
fail:
    return rc;
}

// Whether the engine replays steps.
static bool replays(const struct bench *b)
{
    return engine_stream(b->engine) != NULL && comm_capturable(b->comm);
}

static int run_step(struct work *w)
{
    static const struct record_key ONLY = {{0}}; // all steps have as many samples
    struct bench *b = w->b;
    int rc = RETORT_OK;
    if (b->microbatches.timed || !replays(b))
        return queue_step(w);
    comm_await(b->comm, "all-reduce", b->graph->total * real_bytes(engine_real(b->engine)));
    TRY(engine_record(b->engine, &b->recorded, &ONLY, queue_step, w));
    TRY(wait_for_all(b));
fail:
    return rc;
}

static int bench_step(struct bench *b)
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

// ---- the clock

static int run_steps(struct bench *b, int64_t steps, double *seconds)
{
    int rc = RETORT_OK;
    TRY(comm_barrier(b->comm));
    double start = clock_seconds();
    for (int64_t i = 0; i < steps; i++)
        TRY(bench_step(b));
    TRY(comm_barrier(b->comm));
    *seconds = clock_seconds() - start;
    TRY(comm_broadcast(b->comm, seconds, sizeof *seconds, 0));
fail:
    return rc;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// `seconds`: while parts were timed.
static void summarise(const struct bench *b, struct bench_result *out, double seconds)
{
    double sorted[BENCH_WINDOWS];
    memcpy(sorted, out->windows, sizeof sorted);
    qsort(sorted, BENCH_WINDOWS, sizeof sorted[0], compare_doubles);
    out->images_per_s = sorted[BENCH_WINDOWS / 2];
    out->spread = (sorted[BENCH_WINDOWS - 1] - sorted[0]) / out->images_per_s;
    for (int i = 0; i < BENCH_PARTS; i++)
        out->share[i] = (i < MICROBATCH_PARTS ? b->microbatches.seconds : b->seconds)[i] / seconds;
    out->network_bytes = microbatches_memory(&b->microbatches);
    out->flops_per_image = 3.0 * graph_flops(b->graph);
    out->ranks = comm_size(b->comm);
    (void)snprintf(out->processor, sizeof out->processor, "%s", engine_describe(b->engine));
    out->precision = device_precision_name(b->engine, b->options->precision);
}

// The largest rank's resident peak.
static int peak_memory(struct bench *b, size_t *out)
{
    struct rusage usage;
    int rc = RETORT_OK, size = comm_size(b->comm);
    uint64_t mine = 0, *all = calloc((size_t)size, sizeof *all);
    TRY_ELSE(all != NULL, RETORT_MEMORY, "no memory for %d ranks' figures", size);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        mine = (uint64_t)usage.ru_maxrss * 1024;
    TRY(comm_allgather(b->comm, &mine, sizeof mine, all));
    for (int i = 0; i < size; i++)
        *out = all[i] > *out ? (size_t)all[i] : *out;
fail:
    free(all);
    return rc;
}

static void forget_parts(struct bench *b)
{
    memset(b->seconds, 0, sizeof b->seconds);
    memset(b->microbatches.seconds, 0, sizeof b->microbatches.seconds);
}

// In steps of their own, which wait after each part.
static int time_parts(struct bench *b, int64_t steps, double *seconds)
{
    int rc = RETORT_OK;
    b->microbatches.timed = true;
    TRY(run_steps(b, WARM_UP_STEPS, seconds));
    forget_parts(b);
    TRY(run_steps(b, steps, seconds));
fail:
    return rc;
}

static int run_windows(struct bench *b, struct bench_result *out)
{
    double seconds, all = 0.0;
    int rc = RETORT_OK;
    b->microbatches.timed = !replays(b); // a replay has no parts: see time_parts
    TRY(run_steps(b, WARM_UP_STEPS, &seconds));
    TRY(run_steps(b, 1, &seconds));
    int64_t steps = (int64_t)ceil(b->options->seconds / (seconds * BENCH_WINDOWS));
    forget_parts(b);
    for (int i = 0; i < BENCH_WINDOWS; i++) {
        TRY(run_steps(b, steps, &seconds));
        out->windows[i] = (double)steps * b->options->batch / seconds;
        out->steps += steps;
        all += seconds;
    }
    out->step_ms = 1e3 * all / (double)out->steps;
    if (!b->microbatches.timed)
        TRY(time_parts(b, steps, &all));
    summarise(b, out, all);
    TRY(peak_memory(b, &out->peak_memory_bytes));
fail:
    return rc;
}

int bench_measure(struct bench_result *out, struct comm *comm, const struct bench_options *options,
                  bool *agreed)
{
    struct bench b = {.options = options, .comm = comm};
    int rc = RETORT_OK;
    *out = (struct bench_result){0};
    *agreed = true;
    TRY(bench_open(&b));
    *agreed = false; // inside a step peers may sit in a collective
    TRY(run_windows(&b, out));
    *agreed = true;
fail:
    bench_close(&b, *agreed);
    return rc;
}

// ---- the report

enum group { GROUP_COMPUTE, GROUP_COMMUNICATION, GROUP_DATA, GROUP_OPTIMIZER, GROUP_OTHER, GROUPS };
static const char *const GROUP_NAMES[GROUPS] = {"compute", "communication that nothing hides",
                                                "data", "optimizer", "other"};
static const struct {
    const char *name;
    enum group group;
} PARTS[BENCH_PARTS] = {
    {"augment", GROUP_DATA},
    {"forward", GROUP_COMPUTE},
    {"loss", GROUP_COMPUTE},
    {"backward", GROUP_COMPUTE},
    {"tree", GROUP_COMPUTE},
    {"statistics", GROUP_COMMUNICATION},
    {"all-reduce", GROUP_COMMUNICATION},
    {"update", GROUP_OPTIMIZER},
    {"set_weights", GROUP_OPTIMIZER},
};

static double group_share(const struct bench_result *r, enum group group)
{
    double own = 0.0, all = 0.0;
    for (int i = 0; i < BENCH_PARTS; i++) {
        all += r->share[i];
        own += PARTS[i].group == group ? r->share[i] : 0.0;
    }
    return group == GROUP_OTHER ? fmax(1.0 - all, 0.0) : own;
}

// A step's parts follow one another: without pictures to prepare it is that much shorter.
static double bare_images_per_s(const struct bench_result *r)
{
    return r->images_per_s / (1.0 - r->share[MICROBATCH_AUGMENT]);
}

static void print_json(const struct bench_result *r, const struct bench_options *o)
{
    json_t *shares = json_object(), *windows = json_array();
    for (int i = 0; i < BENCH_PARTS; i++)
        json_object_set_new(shares, PARTS[i].name, json_real(r->share[i]));
    for (int i = 0; i < BENCH_WINDOWS; i++)
        json_array_append_new(windows, json_real(r->windows[i]));
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:o, s:o}",
        "arch", o->arch, "device", o->device, "processor", r->processor, "precision", r->precision,
        "ranks", r->ranks, "threads", o->threads, "batch", o->batch, "microbatches",
        o->microbatches, "images_per_s", r->images_per_s, "bare_images_per_s", bare_images_per_s(r),
        "spread", r->spread, "step_ms", r->step_ms, "gflops_per_s",
        r->images_per_s * r->flops_per_image * 1e-9, "network_bytes", (json_int_t)r->network_bytes,
        "peak_memory_bytes", (json_int_t)r->peak_memory_bytes, "share", shares, "windows", windows);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    (void)fputc('\n', stdout);
    json_decref(j);
}

// "  data 4.1 % (augment 4.1)"
static void print_group(const struct bench_result *r, enum group group)
{
    const char *before = " (";
    printf("  %s %.1f %%", GROUP_NAMES[group], 100.0 * group_share(r, group));
    for (int i = 0; i < BENCH_PARTS; i++)
        if (PARTS[i].group == group) {
            printf("%s%s %.1f", before, PARTS[i].name, 100.0 * r->share[i]);
            before = ", ";
        }
    printf("%s\n", group == GROUP_OTHER ? "" : ")");
}

static void print_text(const struct bench_result *r, const struct bench_options *o)
{
    char peak[32], network[32];
    format_bytes((double)r->peak_memory_bytes, peak, sizeof peak);
    format_bytes((double)r->network_bytes, network, sizeof network);
    printf("%s, batch %d in %d micro-batches, %d rank%s x %d thread%s\n%s\n", o->arch, o->batch,
           o->microbatches, r->ranks, r->ranks == 1 ? "" : "s", o->threads,
           o->threads == 1 ? "" : "s", r->processor);
    printf(
        "%.0f images/s (median of %d windows, spread %.1f %%), %.0f bare (pictures not augmented), "
        "%.2f ms a step, %.0f GFLOP/s\n",
        r->images_per_s, (int)BENCH_WINDOWS, 100.0 * r->spread, bare_images_per_s(r), r->step_ms,
        r->images_per_s * r->flops_per_image * 1e-9);
    printf("time of rank 0:\n");
    for (enum group group = 0; group < GROUPS; group++)
        print_group(r, group);
    printf("memory of a rank: network %s, whole process %s at the most\n", network, peak);
}

void bench_print(const struct bench_result *r, const struct bench_options *options, bool json)
{
    if (json)
        print_json(r, options);
    else
        print_text(r, options);
    (void)fflush(stdout);
}

// Of the launcher, which has checked it.
static int number(const char *text)
{
    return (int)strtol(text, NULL, 10);
}

static int64_t norm_of(const char *word)
{
    if (strcmp(word, "none") == 0)
        return NORM_NONE;
    return strcmp(word, "batch_sync") == 0 ? NORM_BATCH_SYNC : NORM_BATCH;
}

// "": the device's own.
static int64_t precision_of(const char *word, const char *device, bool aloud)
{
    static const struct {
        const char *word;
        int64_t kind;
    } KINDS[] = {{"f32", PRECISION_F32},
                 {"tf32", PRECISION_TF32},
                 {"bf16", PRECISION_BF16},
                 {"fp16", PRECISION_FP16}};
    int64_t asked = PRECISION_AUTO;
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strcmp(word, KINDS[i].word) == 0)
            asked = KINDS[i].kind;
    const int64_t settled = precision_on(device, asked);
    if (aloud && asked != PRECISION_AUTO && settled != asked)
        log_warn("bench: this processor gains nothing by %s; it computes in f32", word);
    return settled;
}

int bench_main(struct comm *comm, char **arguments, bool *agreed)
{
    struct bench_options options = {.arch = arguments[0],
                                    .device = device_choose(arguments[6]),
                                    .norm = norm_of(arguments[7]),
                                    .batch = number(arguments[1]),
                                    .microbatches = number(arguments[2]),
                                    .threads = number(arguments[3]),
                                    .seconds = number(arguments[4]),
                                    .size = 64,
                                    .classes = 200};
    struct bench_result result;
    int rc = RETORT_OK;
    *agreed = true;
    options.precision = precision_of(arguments[8], options.device, comm_rank(comm) == 0);
    if (options.batch < options.microbatches || options.microbatches < comm_size(comm))
        return FAIL(RETORT_USAGE, "bench: %d ranks, %d micro-batches and a batch of %d do not fit",
                    comm_size(comm), options.microbatches, options.batch);
    TRY(bench_measure(&result, comm, &options, agreed));
    if (comm_rank(comm) == 0)
        bench_print(&result, &options, strcmp(arguments[5], "1") == 0);
fail:
    return rc;
}
