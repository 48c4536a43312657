#include "data/network_facts.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"

enum { SIDE_LIMIT = 1 << 16 }; // of a picture, in pixels

// Three finite numbers.
static bool read_channels(double out[3], const json_t *list)
{
    if (json_array_size(list) != 3)
        return false;
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = json_array_get(list, i);
        out[i] = json_number_value(value);
        if (!json_is_number(value) || !isfinite(out[i]))
            return false;
    }
    return true;
}

static bool read_side(int *out, const json_t *value)
{
    json_int_t side = json_integer_value(value);
    *out = side >= 1 && side <= SIDE_LIMIT ? (int)side : 0;
    return *out > 0;
}

static bool read_pictures(struct network_facts *out, const json_t *pictures)
{
    return read_side(&out->height, json_object_get(pictures, "height")) &&
           read_side(&out->width, json_object_get(pictures, "width")) &&
           read_channels(out->mean, json_object_get(pictures, "mean")) &&
           read_channels(out->deviation, json_object_get(pictures, "deviation")) &&
           out->deviation[0] > 0 && out->deviation[1] > 0 && out->deviation[2] > 0;
}

static bool are_texts(const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return false;
    }
    return json_array_size(list) > 0 && json_array_size(list) < INT32_MAX;
}

int network_facts_parse(struct network_facts *out, const char *name, const char *pictures,
                        const char *classes)
{
    int rc = RETORT_OK;
    memset(out, 0, sizeof *out);
    json_t *parsed = json_loads(pictures, JSON_REJECT_DUPLICATES, NULL);
    TRY_ELSE(read_pictures(out, parsed), RETORT_INPUT,
             "%s: its \"pictures\" are no height, width, mean and deviation", name);
    out->classes = json_loads(classes, 0, NULL);
    TRY_ELSE(are_texts(out->classes), RETORT_INPUT, "%s: its \"classes\" are no list of names",
             name);
    out->class_count = (int)json_array_size(out->classes);
fail:
    json_decref(parsed);
    if (rc != RETORT_OK)
        network_facts_free(out);
    return rc;
}

// A folder's name may be of bytes that are no text.
static int append_class(json_t *list, const struct dataset *d, int index)
{
    char *name = NULL;
    int rc = dataset_class_name(d, index, &name);
    if (rc != RETORT_OK)
        return rc;
    json_t *text = json_string(name);
    free(name);
    if (json_array_append_new(list, text ? text : json_sprintf("class %d", index)) != 0)
        return FAIL(RETORT_MEMORY, "no memory for the names of classes");
    return RETORT_OK;
}

int network_facts_of_dataset(struct network_facts *out, const struct dataset *d)
{
    int rc = RETORT_OK;
    *out = (struct network_facts){.height = d->height, .width = d->width, .classes = json_array()};
    memcpy(out->mean, d->mean, sizeof out->mean);
    memcpy(out->deviation, d->deviation, sizeof out->deviation);
    out->class_count = d->class_count;
    for (int i = 0; i < d->class_count; i++)
        TRY(append_class(out->classes, d, i));
    return RETORT_OK;
fail:
    network_facts_free(out);
    return rc;
}

static int of_training_data(struct network_facts *out, const struct checkpoint *c, const char *path)
{
    struct recipe *trained = malloc(sizeof *trained);
    struct dataset d = {.file = {.id = -1}};
    int rc;
    TRY_ELSE(trained, RETORT_MEMORY, "no memory for a recipe");
    TRY(recipe_from_text(trained, "the checkpoint's recipe", c->recipe));
    TRY_ELSE(file_exists(trained->data.path), RETORT_INPUT,
             "%s does not say how its pictures are normalised (later checkpoints do), and the data "
             "set that it was trained on, %s, is not there",
             path, trained->data.path);
    TRY(dataset_open(&d, trained->data.path));
    TRY_ELSE(strcmp(d.fingerprint, c->dataset) == 0, RETORT_INPUT,
             "%s is not the data set that %s was trained on", trained->data.path, path);
    TRY(network_facts_of_dataset(out, &d));
fail:
    dataset_close(&d);
    free(trained);
    return rc;
}

int network_facts_of_checkpoint(struct network_facts *out, const struct checkpoint *c,
                                const char *path)
{
    memset(out, 0, sizeof *out);
    if (c->pictures)
        return network_facts_parse(out, path, c->pictures, c->classes);
    return of_training_data(out, c, path);
}

void network_facts_free(struct network_facts *f)
{
    json_decref(f->classes);
    memset(f, 0, sizeof *f);
}

static json_t *channels(const double values[3])
{
    return json_pack("[f,f,f]", values[0], values[1], values[2]);
}

char *network_facts_pictures(const struct network_facts *f)
{
    json_t *pictures = json_pack("{s:i,s:i,s:o,s:o}", "height", f->height, "width", f->width,
                                 "mean", channels(f->mean), "deviation", channels(f->deviation));
    char *text = json_dumps(pictures, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(pictures);
    return text;
}

char *network_facts_classes(const struct network_facts *f)
{
    return json_dumps(f->classes, JSON_COMPACT);
}

const char *network_facts_class(const struct network_facts *f, int index)
{
    return json_string_value(json_array_get(f->classes, (size_t)index));
}
