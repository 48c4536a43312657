// Which algorithm each convolution uses in each direction: chosen by timing, or as a plan says. In
// bf16, which a plan begins with, there is but one, oneDNN's direct kernels.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "models/cpu/network.h"

static const char NARROW[] = "bf16;";
static const char *const DIRECTION_NAMES[DNN_DIRECTIONS] = {"fwd", "bwd_data", "bwd_weights"};

// ---- by timing

enum { TIMED_RUNS = 7, TIMED_SAMPLES = 50 };

// Seconds of the fastest run, after one to warm up: what disturbs a run only makes it slower.
static int time_op(struct cpu_network *n, struct layer *l, struct dnn_op *op, int count,
                   enum dnn_direction direction, enum conv_algorithm algorithm, double *seconds)
{
    int rc = RETORT_OK;
    *seconds = INFINITY;
    for (int i = 0; i <= TIMED_RUNS; i++) {
        double start = clock_seconds();
        TRY(conv_run(n, l, op, count, direction, algorithm));
        double run = clock_seconds() - start;
        if (i > 0 && run < *seconds)
            *seconds = run;
    }
fail:
    return rc;
}

static int choose_direction(struct cpu_network *n, struct layer *l, enum dnn_direction direction)
{
    int count = n->host.max_batch < TIMED_SAMPLES ? n->host.max_batch : TIMED_SAMPLES;
    double best = 0.0, seconds;
    bool found = false, available;
    struct dnn_op op = {0};
    int rc = RETORT_OK;
    for (int a = 0; a < CONV_ALGORITHMS; a++) {
        TRY(conv_prepare(n, l, &op, count, direction, a, &available));
        if (available) {
            TRY(time_op(n, l, &op, count, direction, a, &seconds));
            if (!found || seconds < best) {
                best = seconds;
                l->conv->algorithm[direction] = (enum conv_algorithm)a;
            }
            found = true;
        }
        dnn_op_free(&op);
    }
    TRY_ELSE(found, RETORT_FAILED, "oneDNN has no convolution for %s", l->node->name);
fail:
    dnn_op_free(&op);
    return rc;
}

// The pictures of the first layer while timing: zeros.
static int choose_by_timing(struct cpu_network *n)
{
    struct shape *in = &n->layers[0].in;
    float *zeros = host_calloc((size_t)n->host.max_batch * shape_elements(in) * sizeof(float));
    int rc = RETORT_OK;
    TRY_ELSE(zeros != NULL, RETORT_MEMORY, "no memory to time %s", n->host.graph->arch);
    n->pictures = zeros;
    n->first->timing = true;
    for (int i = 0; i < n->layer_count; i++)
        for (int d = 0; d < DNN_DIRECTIONS; d++)
            if (n->layers[i].ops == &CONV_LAYER && conv_has_direction(n, &n->layers[i], d))
                TRY(choose_direction(n, &n->layers[i], d));
    // What only the slower ones needed is given back.
    cpu_scratch_free(n, &n->first->scratchpad);
    cpu_scratch_free(n, &n->first->staging);
fail:
    n->first->timing = false;
    n->pictures = NULL;
    free(zeros);
    return rc;
}

// ---- by a plan's text

// Finds "name=value" among the words of [text, end); false when it is not there.
static bool find_word(const char *text, const char *end, const char *name, char *value,
                      size_t value_bytes)
{
    size_t length = strlen(name);
    for (const char *p = text; p < end;) {
        size_t word = strcspn(p, " ;");
        if (word > length + 1 && strncmp(p, name, length) == 0 && p[length] == '=') {
            snprintf(value, value_bytes, "%.*s", (int)(word - length - 1), p + length + 1);
            return true;
        }
        p += word + 1;
    }
    return false;
}

// The part of the plan that begins with the layer's name; NULL when there is none.
static const char *find_layer(const char *text, const char *name, const char **end)
{
    size_t length = strlen(name);
    for (const char *p = text; *p != '\0';) {
        size_t part = strcspn(p, ";");
        *end = p + part;
        if (part > length && strncmp(p, name, length) == 0 && p[length] == ' ')
            return p + length + 1;
        p += part + (p[part] == ';');
    }
    return NULL;
}

static int read_layer(const struct cpu_network *n, struct layer *l, const char *text)
{
    const char *end = NULL, *words = find_layer(text, l->node->name, &end);
    for (int d = 0; d < DNN_DIRECTIONS; d++) {
        char value[16];
        int a = 0;
        if (!conv_has_direction(n, l, d))
            continue;
        if (words == NULL || !find_word(words, end, DIRECTION_NAMES[d], value, sizeof(value)))
            return FAIL(RETORT_USAGE,
                        "the engine plan says nothing of %s %s: it was made by another device or "
                        "network (\"%.40s\"); start afresh without it",
                        l->node->name, DIRECTION_NAMES[d], text);
        while (a < CONV_ALGORITHMS &&
               strcmp(value, conv_algorithm_name((enum conv_algorithm)a)) != 0)
            a++;
        if (a == CONV_ALGORITHMS)
            return FAIL(RETORT_USAGE,
                        "the engine plan asks for algorithm \"%s\" for %s %s; device cpu knows "
                        "direct, wino and own",
                        value, l->node->name, DIRECTION_NAMES[d]);
        l->conv->algorithm[d] = (enum conv_algorithm)a;
    }
    return RETORT_OK;
}

// Whether the plan is for the other precision: to train by it would change bits. A network that
// doesn't train may be used in another one than it was trained in.
static int check_precision(const struct cpu_network *n, const char *text, bool *foreign)
{
    bool narrow = n->engine->dnn.narrow;
    *foreign = text != NULL && (strncmp(text, NARROW, strlen(NARROW)) == 0) != narrow;
    if (*foreign && n->host.training)
        return FAIL(RETORT_USAGE,
                    "the engine plan is %sfor bf16, and device cpu was asked for %s; start afresh "
                    "without it",
                    narrow ? "not " : "", narrow ? "bf16" : "f32");
    return RETORT_OK;
}

// Without a choice all kernels are the direct ones, the same on every rank.
int cpu_plan_apply(struct cpu_network *n, const char *text)
{
    bool foreign;
    int rc = RETORT_OK;
    TRY(check_precision(n, text, &foreign));
    if (foreign || (text == NULL && n->engine->dnn.narrow))
        return RETORT_OK;
    if (text == NULL)
        return choose_by_timing(n);
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops == &CONV_LAYER)
            TRY(read_layer(n, &n->layers[i], text));
fail:
    return rc;
}

// ---- to text

static void print_layer(FILE *out, const struct cpu_network *n, const struct layer *l)
{
    fprintf(out, "%s", l->node->name);
    for (int d = 0; d < DNN_DIRECTIONS; d++)
        if (conv_has_direction(n, l, d))
            fprintf(out, " %s=%s", DIRECTION_NAMES[d], conv_algorithm_name(l->conv->algorithm[d]));
    fprintf(out, ";");
}

int cpu_network_plan(const struct network *base, char **out)
{
    const struct cpu_network *n = cpu_network_of(base);
    size_t bytes;
    FILE *f = open_memstream(out, &bytes);
    if (f == NULL)
        return FAIL(RETORT_MEMORY, "no memory for an engine plan");
    if (n->engine->dnn.narrow)
        fprintf(f, "%s", NARROW);
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops == &CONV_LAYER)
            print_layer(f, n, &n->layers[i]);
    return fclose(f) == 0 ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for an engine plan");
}
