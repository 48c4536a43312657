// The choices that affect bits, as text: which of cuDNN's engines, with which knobs, each product
// uses in each direction.
//
//   batch 50 bf16;conv1 out=22:17.3,18.0 weights=40 sums=7 insums=9;…  (engine:knob.value,…)
//
// Without "sums" a BatchNorm behind the convolution takes its own sums of forward, and without
// "insums" one before it its own sums of backward, as all did in older plans.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/cuda/network.h"

static const char *const DIRECTION_NAMES[DIRECTIONS] = {"out", "in", "weights", "sums", "insums"};

// ---- to text

static void print_offer(FILE *out, const struct dnn_offer *o)
{
    fprintf(out, "%lld", (long long)o->engine);
    for (int i = 0; i < o->knob_count; i++)
        fprintf(out, "%s%d.%lld", i == 0 ? ":" : ",", (int)o->knob[i], (long long)o->value[i]);
}

static void print_layer(FILE *out, const struct cuda_network *n, const struct cuda_layer *l)
{
    fprintf(out, ";%s", l->node->name);
    for (int d = 0; d < DIRECTIONS; d++)
        if (cuda_product_has(n, l, d) && l->product->plan[d].plan != NULL) {
            fprintf(out, " %s=", DIRECTION_NAMES[d]);
            print_offer(out, &l->product->offer[d]);
        }
}

int cuda_network_plan(const struct network *base, char **out)
{
    const struct cuda_network *n = cuda_network_of(base);
    size_t bytes;
    FILE *f = open_memstream(out, &bytes);
    if (f == NULL)
        return FAIL(RETORT_MEMORY, "no memory for an engine plan");
    fprintf(f, "batch %d %s", n->max_batch, cuda_precision(n->engine));
    for (int i = 0; i < n->layer_count; i++)
        if (n->layers[i].ops == &CUDA_PRODUCT_LAYER)
            print_layer(f, n, &n->layers[i]);
    return fclose(f) == 0 ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for an engine plan");
}

// ---- from text

// Behind "name " at the beginning of a part; NULL when there is no such part.
static const char *find_layer(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *p = strchr(text, ';'); p != NULL; p = strchr(p + 1, ';'))
        if (strncmp(p + 1, name, length) == 0 && p[length + 1] == ' ')
            return p + length + 2;
    return NULL;
}

// Behind "name=" among the words of a part; NULL when it is not there.
static const char *find_word(const char *words, const char *name)
{
    size_t length = strlen(name), part = strcspn(words, ";");
    for (const char *p = words; p < words + part; p += strcspn(p, " ;") + 1)
        if (strncmp(p, name, length) == 0 && p[length] == '=')
            return p + length + 1;
    return NULL;
}

static bool read_number(const char **p, long long *out)
{
    char *end;
    *out = strtoll(*p, &end, 10);
    bool good = end != *p;
    *p = end;
    return good;
}

static bool read_offer(const char *p, struct dnn_offer *out)
{
    long long engine, knob, value;
    *out = (struct dnn_offer){0};
    if (!read_number(&p, &engine))
        return false;
    out->engine = engine;
    while (*p == ':' || *p == ',') {
        p++;
        if (out->knob_count == DNN_KNOBS || !read_number(&p, &knob) || *p++ != '.' ||
            !read_number(&p, &value))
            return false;
        out->knob[out->knob_count] = (int32_t)knob;
        out->value[out->knob_count++] = value;
    }
    return *p == ' ' || *p == ';' || *p == '\0';
}

// The plan's offer for one direction; refused only where it was made for this very shape. A network
// for another batch (evaluation) that cannot follow takes cuDNN's first, whatever the clock says.
static int read_direction(struct cuda_network *n, struct cuda_layer *l, enum direction d,
                          const char *text, bool same_shape)
{
    const char *words = find_layer(text, l->node->name), *word = NULL;
    bool accepted;
    int rc = RETORT_OK;
    if (words != NULL)
        word = find_word(words, DIRECTION_NAMES[d]);
    if (word == NULL && cuda_has_sums(d))
        return rc;
    TRY_ELSE(word != NULL && read_offer(word, &l->product->offer[d]), RETORT_USAGE,
             "the engine plan says nothing of %s %s: it was made by another device or network "
             "(\"%.40s\"); start afresh without it",
             l->node->name, DIRECTION_NAMES[d], text);
    TRY(cuda_product_follow(n, l, d, &accepted));
    TRY_ELSE(
        accepted || !same_shape, RETORT_USAGE,
        "cuDNN %zu refuses the engine plan's choice for %s %s: it was made on another GPU or by "
        "another cuDNN; start afresh without it",
        cudnnGetVersion(), l->node->name, DIRECTION_NAMES[d]);
    if (!accepted)
        TRY(cuda_product_choose(n, l, d, false));
fail:
    return rc;
}

static int read_plan(struct cuda_network *n, const char *text)
{
    char begin[64];
    int rc = RETORT_OK;
    snprintf(begin, sizeof(begin), "batch %d %s;", n->max_batch, cuda_precision(n->engine));
    bool same_shape = strncmp(text, begin, strlen(begin)) == 0;
    for (int i = 0; i < n->layer_count; i++)
        for (int d = 0; d < DIRECTIONS; d++)
            if (n->layers[i].ops == &CUDA_PRODUCT_LAYER && cuda_product_has(n, &n->layers[i], d))
                TRY(read_direction(n, &n->layers[i], d, text, same_shape));
fail:
    return rc;
}

// ---- by timing

static int choose_all(struct cuda_network *n)
{
    int rc = RETORT_OK;
    for (int i = 0; i < n->layer_count; i++) {
        struct cuda_layer *l = &n->layers[i];
        for (int d = 0; d < DIRECTIONS && l->ops == &CUDA_PRODUCT_LAYER; d++)
            if (cuda_product_has(n, l, d) && cuda_product_offered(l, d))
                TRY(cuda_product_choose(n, l, d, true));
    }
fail:
    return rc;
}

// The first layer's pictures while timing: zeros.
static int choose_by_timing(struct cuda_network *n)
{
    struct cuda_input pictures = {0};
    size_t elements = (size_t)n->max_batch * cuda_shape_elements(&n->layers[0].in);
    int rc = RETORT_OK;
    TRY(cuda_memory(n->engine, elements * element_bytes(n->engine->type), &pictures.values));
    n->input = &pictures;
    n->count = n->max_batch;
    TRY(choose_all(n));
fail:
    n->input = NULL;
    n->count = 0;
    (void)cudaFree(pictures.values);
    return rc;
}

int cuda_plan_apply(struct cuda_network *n, const char *text)
{
    return text != NULL ? read_plan(n, text) : choose_by_timing(n);
}
