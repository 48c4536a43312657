#include "worker/import_facts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { CLASSES_LIMIT = 1 << 26 }; // bytes of a file of names

// "pictures" and "classes" of the file, parsed; an object without members, and NULL, where there
// are none.
static int read_metadata(json_t **pictures, json_t **classes, const struct import_request *q,
                         const struct safetensors *in)
{
    const char *pictures_text = safetensors_text(in, "pictures");
    const char *classes_text = safetensors_text(in, "classes");
    int rc = RETORT_OK;
    *pictures =
        pictures_text ? json_loads(pictures_text, JSON_REJECT_DUPLICATES, NULL) : json_object();
    TRY_ELSE(json_is_object(*pictures), RETORT_INPUT,
             "%s: \"pictures\" of its __metadata__ is no JSON object", q->in);
    if (classes_text) {
        *classes = json_loads(classes_text, 0, NULL);
        TRY_ELSE(*classes, RETORT_INPUT, "%s: \"classes\" of its __metadata__ is no JSON", q->in);
    }
fail:
    return rc;
}

static void replace(json_t **value, json_t *by)
{
    json_decref(*value);
    *value = by;
}

static int read_dataset(json_t **pictures, json_t **classes, char fingerprint[33], const char *path)
{
    struct dataset d = {.file = {.id = -1}};
    struct network_facts facts = {0};
    char *text = NULL;
    int rc;
    TRY(dataset_open(&d, path));
    TRY(network_facts_of_dataset(&facts, &d));
    (void)snprintf(fingerprint, 33, "%s", d.fingerprint);
    text = network_facts_pictures(&facts);
    replace(pictures, text ? json_loads(text, 0, NULL) : NULL);
    replace(classes, json_incref(facts.classes));
    TRY_ELSE(*pictures, RETORT_MEMORY, "no memory to describe a network");
fail:
    free(text);
    network_facts_free(&facts);
    dataset_close(&d);
    return rc;
}

// A blank last line is none.
static int read_classes(json_t **classes, const char *path)
{
    char *text = NULL, *rest = NULL;
    size_t bytes;
    int rc;
    TRY(file_read(path, CLASSES_LIMIT, &text, &bytes));
    TRY_ELSE(strlen(text) == bytes, RETORT_INPUT, "%s is no text", path);
    replace(classes, json_array());
    for (char *line = strtok_r(text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest))
        TRY_ELSE(json_array_append_new(*classes, json_string(line)) == 0, RETORT_INPUT,
                 "%s: a line is no UTF-8", path);
fail:
    free(text);
    return rc;
}

// "64" or "24x40".
static int read_size(json_t *pictures, const char *text)
{
    char *end;
    long width = strtol(text, &end, 10), height = width;
    if (*end == 'x')
        height = strtol(end + 1, &end, 10); // 0 of nothing
    if (*end || width < 1 || height < 1 || width > INT16_MAX || height > INT16_MAX)
        return FAIL(RETORT_USAGE,
                    "import: --size %s: expected a side in pixels, or width x height, as in 64x48",
                    text);
    json_object_set_new(pictures, "width", json_integer(width));
    json_object_set_new(pictures, "height", json_integer(height));
    return RETORT_OK;
}

// "0.48,0.45,0.40"; false when it is not that, or not finite.
static bool parse_channels(double out[3], const char *text)
{
    for (int i = 0; i < 3; i++) {
        char *end;
        out[i] = strtod(text, &end);
        if (end == text || *end != (i < 2 ? ',' : '\0') || !isfinite(out[i]))
            return false;
        text = end + 1;
    }
    return true;
}

static int read_channels(json_t *pictures, const char *option, const char *text)
{
    double v[3];
    if (!parse_channels(v, text))
        return FAIL(RETORT_USAGE,
                    "import: --%s %s: expected three numbers of pixels in [0, 1], as in "
                    "0.48,0.45,0.40",
                    option, text);
    json_object_set_new(pictures, option, json_pack("[f,f,f]", v[0], v[1], v[2]));
    return RETORT_OK;
}

static int read_options(json_t *pictures, json_t **classes, const struct import_request *q)
{
    int rc = RETORT_OK;
    if (*q->size)
        TRY(read_size(pictures, q->size));
    if (*q->mean)
        TRY(read_channels(pictures, "mean", q->mean));
    if (*q->deviation)
        TRY(read_channels(pictures, "deviation", q->deviation));
    if (*q->classes)
        TRY(read_classes(classes, q->classes));
fail:
    return rc;
}

static int check_told(const json_t *pictures, const json_t *classes, const char *in)
{
    static const struct {
        const char *member, *what, *option;
    } WANTED[] = {
        {"height", "what size its pictures have", "--size N"},
        {"width", "what size its pictures have", "--size N"},
        {"mean", "by what mean its pictures are normalised", "--mean R,G,B"},
        {"deviation", "by what deviation its pictures are normalised", "--deviation R,G,B"}};
    for (size_t i = 0; i < sizeof WANTED / sizeof WANTED[0]; i++)
        if (!json_object_get(pictures, WANTED[i].member))
            return FAIL(
                RETORT_USAGE,
                "import: %s does not say %s; give %s, or --data FILE of the packed data set", in,
                WANTED[i].what, WANTED[i].option);
    if (!classes)
        return FAIL(RETORT_USAGE,
                    "import: %s does not say what its classes are called; give --classes FILE, a "
                    "name a line, or --data FILE of the packed data set",
                    in);
    return RETORT_OK;
}

int import_facts(struct network_facts *out, char fingerprint[33], const struct import_request *q,
                 const struct safetensors *in)
{
    json_t *pictures = NULL, *classes = NULL;
    char *pictures_text = NULL, *classes_text = NULL;
    int rc;
    memset(out, 0, sizeof *out);
    fingerprint[0] = '\0';
    TRY(read_metadata(&pictures, &classes, q, in));
    if (*q->data)
        TRY(read_dataset(&pictures, &classes, fingerprint, q->data));
    TRY(read_options(pictures, &classes, q));
    TRY(check_told(pictures, classes, q->in));
    pictures_text = json_dumps(pictures, JSON_COMPACT | JSON_REAL_PRECISION(17));
    classes_text = json_dumps(classes, JSON_COMPACT | JSON_ENCODE_ANY);
    TRY_ELSE(pictures_text && classes_text, RETORT_MEMORY, "no memory to describe a network");
    TRY(network_facts_parse(out, q->in, pictures_text, classes_text));
fail:
    json_decref(pictures);
    json_decref(classes);
    free(pictures_text);
    free(classes_text);
    return rc;
}
