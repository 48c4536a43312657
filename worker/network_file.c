#include "worker/network_file.h"

#include <string.h>

#include "base/error.h"

int network_graph(struct graph **out, const struct network_recipe *recipe, int height, int width,
                  int classes)
{
    struct graph_options options = {
        .channels = DATASET_CHANNELS,
        .height = height,
        .width = width,
        .classes = classes,
        .norm = recipe->norm,
        .activation = recipe->activation,
    };
    return graph_create(out, recipe->arch, &options);
}

struct picture_format network_picture_format(const struct network_facts *facts)
{
    struct picture_format format = {.height = facts->height, .width = facts->width};
    memcpy(format.mean, facts->mean, sizeof format.mean);
    memcpy(format.deviation, facts->deviation, sizeof format.deviation);
    return format;
}

char *network_layout(const struct graph *g)
{
    json_t *list = json_array();
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        json_t *shape = json_array();
        for (int d = 0; d < p->rank; d++)
            json_array_append_new(shape, json_integer(p->dims[d]));
        json_array_append_new(list, json_pack("{s:s,s:o,s:I,s:I}", "name", p->name, "shape", shape,
                                              "offset", (json_int_t)p->offset, "count",
                                              (json_int_t)p->count));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

void network_describe(char *out, const struct graph *g, const char *norm,
                      const struct network_facts *facts)
{
    (void)snprintf(out, NETWORK_TEXT, "%s with norm %s for pictures of %d x %d and %d classes",
                   g->arch, norm, facts->width, facts->height, facts->class_count);
}

static int read_facts(struct network_file *f, const char *path, const struct dataset *data)
{
    int rc = RETORT_OK;
    if (f->checkpoint.pictures || !data)
        TRY(network_facts_of_checkpoint(&f->facts, &f->checkpoint, path));
    else
        TRY(network_facts_of_dataset(&f->facts, data));
    TRY_ELSE(!data || (f->facts.height == data->height && f->facts.width == data->width &&
                       f->facts.class_count == data->class_count),
             RETORT_INPUT, "%s does not fit the classes or picture size of %s", path,
             data->file.path);
fail:
    return rc;
}

// The recipe that trained it says what the network is; the checkpoint's own state, which one.
static int read_graph(struct network_file *f, const char *path)
{
    struct recipe trained;
    const char *text = json_string_value(json_object_get(f->checkpoint.state, "stage"));
    const struct checkpoint *c = &f->checkpoint;
    enum stage stage;
    int rc = RETORT_OK;
    TRY(recipe_from_text(&trained, "the checkpoint's recipe", c->recipe));
    TRY(stage_parse(text ? text : "", &stage));
    TRY_ELSE(recipe_network(&trained, stage), RETORT_INPUT, "%s holds no network", path);
    bool teacher = stage == STAGE_TEACHER;
    f->precision = trained.run.precision;
    recipe_get(&trained, teacher ? "teacher.norm" : "student.norm", f->norm, sizeof f->norm);
    recipe_get(&trained, teacher ? "teacher.activation" : "student.activation", f->activation,
               sizeof f->activation);
    TRY(network_graph(&f->graph, recipe_network(&trained, stage), f->facts.height, f->facts.width,
                      f->facts.class_count));
    TRY_ELSE(c->total == f->graph->total && c->trainable == f->graph->trainable, RETORT_INPUT,
             "%s holds another number of weights than %s has for its pictures and classes", path,
             f->graph->arch);
fail:
    return rc;
}

int network_file_read(struct network_file *out, const char *path, const struct dataset *data)
{
    int rc;
    memset(out, 0, sizeof *out);
    TRY(checkpoint_read(&out->checkpoint, path, false));
    TRY(read_facts(out, path, data));
    TRY(read_graph(out, path));
    return RETORT_OK;
fail:
    network_file_free(out);
    return rc;
}

void network_file_free(struct network_file *f)
{
    graph_destroy(&f->graph);
    network_facts_free(&f->facts);
    checkpoint_free(&f->checkpoint);
    free(f->plan);
    f->plan = NULL;
}

int network_file_weights(const struct network_file *f, bool ema, const char *path, const void **out)
{
    *out = ema ? f->checkpoint.ema : f->checkpoint.weights;
    if (*out)
        return RETORT_OK;
    return FAIL(RETORT_INPUT, "%s has no EMA weights; use --weights raw", path);
}

int network_upload(struct engine *e, void *to, const void *values, size_t count,
                   enum real_type real, const char *path)
{
    if (real == engine_real(e))
        return engine_upload(e, to, values, count * real_bytes(real));
    if (real == REAL_F32)
        return engine_from_f32(e, to, values, count);
    return FAIL(RETORT_INPUT, "%s holds f64 weights, and the device %s computes in f32", path,
                engine_name(e));
}

int evaluator_open(struct evaluator *v, struct engine *e, const struct network_file *f, bool ema,
                   const char *path)
{
    const struct checkpoint *c = &f->checkpoint;
    const struct picture_format format = network_picture_format(&f->facts);
    const struct network_options options = {.max_batch = DATASET_BLOCK, .plan = f->plan};
    const void *weights;
    int rc;
    memset(v, 0, sizeof *v);
    TRY(network_file_weights(f, ema, path, &weights));
    v->arena = engine_alloc(e, c->total * real_bytes(engine_real(e)));
    TRY(v->arena ? RETORT_OK : RETORT_MEMORY); // the engine has said so
    TRY(network_upload(e, v->arena, weights, c->total, c->real, path));
    TRY(network_create(&v->network, e, f->graph, &options));
    TRY(input_create(&v->input, e, &format, DATASET_BLOCK));
    return RETORT_OK;
fail:
    evaluator_close(v, e);
    return rc;
}

void evaluator_close(struct evaluator *v, struct engine *e)
{
    network_destroy(&v->network);
    input_destroy(&v->input);
    if (v->arena)
        engine_free(e, v->arena);
    memset(v, 0, sizeof *v);
}
