#include "worker/state_dict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { SHAPE_TEXT = 24 * SAFETENSORS_RANK };

static void add_counters(struct state_dict *d, const struct graph *g)
{
    for (int i = 0; i < g->node_count; i++) {
        if (g->nodes[i].kind != NODE_BATCHNORM)
            continue;
        char *name = d->counter_names[d->counter_count++];
        (void)snprintf(name, sizeof *d->counter_names, "%s.num_batches_tracked", g->nodes[i].name);
        d->tensors[d->count++] =
            (struct safetensor){.name = name, .type = SAFETENSORS_I64, .bytes = sizeof(int64_t)};
    }
}

static void add_parameter(struct state_dict *d, const struct param *p, enum real_type real)
{
    struct safetensor *t = &d->tensors[d->count++];
    *t = (struct safetensor){.name = p->name,
                             .type = real == REAL_F64 ? SAFETENSORS_F64 : SAFETENSORS_F32,
                             .rank = p->rank,
                             .bytes = p->count * real_bytes(real)};
    for (int i = 0; i < p->rank; i++)
        t->shape[i] = p->dims[i];
}

int state_dict_create(struct state_dict *out, const struct graph *g, enum real_type real)
{
    *out = (struct state_dict){
        .tensors = calloc((size_t)g->param_count + g->node_count, sizeof *out->tensors),
        .counter_names = calloc((size_t)g->node_count, sizeof *out->counter_names)};
    if (!out->tensors || !out->counter_names) {
        state_dict_free(out);
        return FAIL(RETORT_MEMORY, "no memory for the names of %d parameters", g->param_count);
    }
    add_counters(out, g); // eight bytes wide: first, so that all values are aligned in the file
    for (int i = 0; i < g->param_count; i++)
        add_parameter(out, &g->params[i], real);
    return RETORT_OK;
}

void state_dict_free(struct state_dict *d)
{
    free(d->tensors);
    free(d->counter_names);
    memset(d, 0, sizeof *d);
}

void state_dict_point(struct state_dict *d, const struct graph *g, enum real_type real,
                      const void *arena, const int64_t *step)
{
    for (size_t i = 0; i < d->counter_count; i++)
        d->tensors[i].data = step;
    for (int i = 0; i < g->param_count; i++)
        d->tensors[d->counter_count + i].data =
            (const char *)arena + g->params[i].offset * real_bytes(real);
}

static void shape_text(const struct safetensor *t, char out[SHAPE_TEXT])
{
    size_t used = 0;
    for (int i = 0; i < t->rank; i++)
        used += (size_t)snprintf(out + used, SHAPE_TEXT - used, "%s%lld", i ? ", " : "",
                                 (long long)t->shape[i]);
    out[used] = '\0';
}

// A wrapper's names end with the wanted one: "module.conv1.weight", "_orig_mod.conv1.weight".
static const char *wrapped_name(const struct safetensors *from, const char *name)
{
    for (size_t i = 0; i < from->count; i++) {
        size_t length = strlen(from->tensors[i].name), wanted = strlen(name);
        const char *end = from->tensors[i].name + length - (wanted < length ? wanted : length);
        if (end > from->tensors[i].name && end[-1] == '.' && strcmp(end, name) == 0)
            return from->tensors[i].name;
    }
    return NULL;
}

static int refuse_missing(const struct safetensors *from, const char *name, const char *path,
                          const char *what)
{
    const char *wrapped = wrapped_name(from, name);
    if (wrapped)
        return FAIL(RETORT_INPUT,
                    "%s has no tensor \"%s\", but \"%.80s\"; save the state_dict() of the network "
                    "itself, not of what wraps it",
                    path, name, wrapped);
    return FAIL(RETORT_INPUT, "%s has no tensor \"%s\", which %s has", path, name, what);
}

static int check_tensor(const struct safetensor *t, const struct safetensor *wanted,
                        const char *path, const char *what)
{
    char have[SHAPE_TEXT], want[SHAPE_TEXT];
    if (t->type != wanted->type)
        return FAIL(RETORT_INPUT, "%s: tensor \"%s\" is of %s, not %s%s", path, t->name,
                    safetensors_type_name(t->type), safetensors_type_name(wanted->type),
                    wanted->type == SAFETENSORS_I64 ? "" : "; save all of them as float32");
    if (t->rank == wanted->rank &&
        memcmp(t->shape, wanted->shape, (size_t)t->rank * sizeof *t->shape) == 0)
        return RETORT_OK;
    shape_text(t, have);
    shape_text(wanted, want);
    return FAIL(RETORT_INPUT, "%s: tensor \"%s\" is [%s], but [%s] in %s", path, t->name, have,
                want, what);
}

// How a BatchNorm would divide by a negative variance is nobody's business.
static int check_values(const void *values, const struct param *p, enum real_type real,
                        const char *path)
{
    for (size_t i = 0; i < p->count; i++) {
        double v =
            real == REAL_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
        if (!isfinite(v) || (p->role == STAT_VARIANCE && v < 0))
            return FAIL(RETORT_INPUT, "%s: element %zu of tensor \"%s\" is %g", path, i, p->name,
                        v);
    }
    return RETORT_OK;
}

// The file has all that is wanted: one more tensor is one too many.
static int refuse_extra(const struct state_dict *d, const struct safetensors *from,
                        const char *path, const char *what)
{
    for (size_t i = 0; i < from->count; i++) {
        size_t k = 0;
        while (k < d->count && strcmp(d->tensors[k].name, from->tensors[i].name) != 0)
            k++;
        if (k == d->count)
            return FAIL(RETORT_INPUT, "%s: tensor \"%.80s\" is none of %s", path,
                        from->tensors[i].name, what);
    }
    return RETORT_OK;
}

int state_dict_check(const struct state_dict *d, const struct safetensors *from, const char *path,
                     const char *what)
{
    int rc = RETORT_OK;
    for (size_t i = 0; i < d->count; i++) {
        const struct safetensor *t = safetensors_find(from, d->tensors[i].name);
        TRY(t ? check_tensor(t, &d->tensors[i], path, what)
              : refuse_missing(from, d->tensors[i].name, path, what));
    }
    TRY(refuse_extra(d, from, path, what));
fail:
    return rc;
}

// The largest of the counters: a layer that was frozen has counted less.
static int take_counters(const struct state_dict *d, const struct safetensors *from,
                         const char *path, int64_t *step)
{
    *step = 0;
    for (size_t i = 0; i < d->counter_count; i++) {
        int64_t counted;
        memcpy(&counted, safetensors_find(from, d->tensors[i].name)->data, sizeof counted);
        if (counted < 0)
            return FAIL(RETORT_INPUT, "%s: \"%s\" is %lld", path, d->tensors[i].name,
                        (long long)counted);
        *step = counted > *step ? counted : *step;
    }
    return RETORT_OK;
}

int state_dict_take(const struct state_dict *d, const struct graph *g, enum real_type real,
                    const struct safetensors *from, const char *path, void *arena, int64_t *step)
{
    int rc = RETORT_OK;
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        char *to = (char *)arena + p->offset * real_bytes(real);
        memcpy(to, safetensors_find(from, p->name)->data, p->count * real_bytes(real));
        TRY(check_values(to, p, real, path));
    }
    TRY(take_counters(d, from, path, step));
fail:
    return rc;
}
