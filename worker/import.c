#include "worker/import.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "worker/import_facts.h"
#include "worker/network_file.h"
#include "worker/state_dict.h"

struct import {
    struct safetensors in;
    struct network_facts facts;
    struct recipe recipe;
    struct graph *graph;
    struct checkpoint checkpoint; // all of it owned
};

// A word of the network: the command line's, else the file's, else the recipe's own default.
static int set_word(struct import *m, const char *key, const char *given, const char *path)
{
    char name[RECIPE_WORD];
    const char *told = safetensors_text(&m->in, key);
    (void)snprintf(name, sizeof name, "teacher.%s", key);
    if (*given)
        return recipe_set_value(&m->recipe, "import", name, given);
    if (told && recipe_set_value(&m->recipe, path, name, told) != RETORT_OK)
        return RETORT_INPUT;
    return RETORT_OK;
}

// The recipe that would train such a network as a teacher: checkpoints say by it what they are.
static int make_network(struct import *m, const struct import_request *q)
{
    int rc = RETORT_OK;
    recipe_defaults(&m->recipe);
    TRY_ELSE(*q->arch || safetensors_text(&m->in, "arch"), RETORT_USAGE,
             "import: %s does not say what network it is of; give --arch, one of %s", q->in,
             graph_archs());
    TRY(set_word(m, "arch", q->arch, q->in));
    TRY(set_word(m, "norm", q->norm, q->in));
    TRY(set_word(m, "activation", q->activation, q->in));
    TRY(network_graph(&m->graph, &m->recipe.teacher, m->facts.height, m->facts.width,
                      m->facts.class_count));
fail:
    return rc;
}

// f64 where the file's first parameter is; the others are held against it.
static enum real_type real_of(const struct import *m)
{
    const struct safetensor *t = safetensors_find(&m->in, m->graph->params[0].name);
    return t && t->type == SAFETENSORS_F64 ? REAL_F64 : REAL_F32;
}

static int take_weights(struct import *m, const struct import_request *q, int64_t *step)
{
    struct state_dict d = {0};
    struct checkpoint *c = &m->checkpoint;
    char norm[RECIPE_WORD], what[NETWORK_TEXT];
    int rc;
    c->real = real_of(m);
    c->total = m->graph->total;
    c->trainable = m->graph->trainable;
    recipe_get(&m->recipe, "teacher.norm", norm, sizeof norm);
    network_describe(what, m->graph, norm, &m->facts);
    TRY(state_dict_create(&d, m->graph, c->real));
    TRY(state_dict_check(&d, &m->in, q->in, what)); // before sizes that are only claimed are used
    c->weights = malloc(c->total * real_bytes(c->real));
    TRY_ELSE(c->weights, RETORT_MEMORY, "no memory for %zu weights", c->total);
    TRY(state_dict_take(&d, m->graph, c->real, &m->in, q->in, c->weights, step));
fail:
    state_dict_free(&d);
    return rc;
}

static int write_checkpoint(struct import *m, const char *path, const char *fingerprint,
                            int64_t step)
{
    struct checkpoint *c = &m->checkpoint;
    int rc;
    c->state = json_pack("{s:s,s:s,s:I,s:b,s:s}", "stage", stage_name(STAGE_TEACHER), "arch",
                         m->graph->arch, "step", (json_int_t)step, "finished", 1, "plan", "");
    c->layout = network_layout(m->graph);
    c->dataset = strdup(fingerprint);
    c->pictures = network_facts_pictures(&m->facts);
    c->classes = network_facts_classes(&m->facts);
    TRY(recipe_to_text(&m->recipe, &c->recipe));
    TRY_ELSE(c->state && c->layout && c->dataset && c->pictures && c->classes, RETORT_MEMORY,
             "no memory for a checkpoint");
    TRY(checkpoint_write_file(path, c));
fail:
    return rc;
}

// What was taken for granted is said, so that it can be seen.
static void report(const struct import *m, const struct import_request *q)
{
    char norm[RECIPE_WORD], activation[RECIPE_WORD], what[NETWORK_TEXT];
    const struct network_facts *f = &m->facts;
    recipe_get(&m->recipe, "teacher.norm", norm, sizeof norm);
    recipe_get(&m->recipe, "teacher.activation", activation, sizeof activation);
    network_describe(what, m->graph, norm, f);
    log_info(
        "%s: %s, activation %s, mean %.4g %.4g %.4g, deviation %.4g %.4g %.4g; class 0 is \"%s\"",
        q->out, what, activation, f->mean[0], f->mean[1], f->mean[2], f->deviation[0],
        f->deviation[1], f->deviation[2], network_facts_class(f, 0));
}

int import_checkpoint(const struct import_request *q)
{
    struct import *m = calloc(1, sizeof *m);
    char fingerprint[33];
    int64_t step;
    int rc;
    if (!m)
        return FAIL(RETORT_MEMORY, "no memory to import %s", q->in);
    TRY(safetensors_read(&m->in, q->in));
    TRY(import_facts(&m->facts, fingerprint, q, &m->in));
    TRY(make_network(m, q));
    TRY(take_weights(m, q, &step));
    TRY(write_checkpoint(m, q->out, fingerprint, step));
    report(m, q);
fail:
    checkpoint_free(&m->checkpoint);
    graph_destroy(&m->graph);
    network_facts_free(&m->facts);
    safetensors_free(&m->in);
    free(m);
    return rc;
}
