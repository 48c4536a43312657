#include "worker/predict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "worker/device.h"
#include "worker/network_file.h"
#include "worker/plan.h"
#include "worker/predict_picture.h"

enum { SHOWN = 5, RGB = 3 };

struct predictor {
    struct network_file file;
    struct engine *engine;
    struct evaluator evaluator;
    uint8_t *pixels; // owned: [count, height, width, 3], of all pictures
    size_t picture_bytes;
    uint8_t *block;        // engine memory: [DATASET_BLOCK, height, width, 3]
    void *rows;            // owned: [DATASET_BLOCK, classes] of the engine's type
    double *probabilities; // owned: [count, classes]
};

static int read_pictures(struct predictor *p, const struct predict_request *q)
{
    const struct network_facts *f = &p->file.facts;
    int rc = RETORT_OK;
    p->picture_bytes = (size_t)f->height * (size_t)f->width * RGB;
    p->pixels = malloc((size_t)q->count * p->picture_bytes);
    TRY_ELSE(p->pixels, RETORT_MEMORY, "no memory for %d pictures", q->count);
    for (int i = 0; i < q->count; i++)
        TRY(predict_picture(p->pixels + (size_t)i * p->picture_bytes, q->pictures[i], f->height,
                            f->width));
fail:
    return rc;
}

static int open_predictor(struct predictor *p, const struct predict_request *q)
{
    struct engine_options options = {
        .device = q->device, .threads = q->threads, .deterministic = true};
    struct network_file *f = &p->file;
    size_t classes;
    int rc;
    TRY(network_file_read(f, q->checkpoint, NULL));
    TRY(read_pictures(p, q));
    options.precision = device_precision(q->device, f->precision);
    TRY(engine_open(&p->engine, &options));
    f->plan = plan_of_state(f->checkpoint.state, p->engine);
    if (!f->plan)
        TRY(plan_choose(&f->plan, p->engine, f->graph, DATASET_BLOCK));
    TRY(evaluator_open(&p->evaluator, p->engine, f, q->ema, q->checkpoint));
    TRY(network_set_weights(p->evaluator.network, p->evaluator.arena));
    classes = (size_t)f->graph->classes;
    p->block = engine_alloc(p->engine, DATASET_BLOCK * p->picture_bytes);
    p->rows = malloc(DATASET_BLOCK * classes * real_bytes(engine_real(p->engine)));
    p->probabilities = malloc((size_t)q->count * classes * sizeof *p->probabilities);
    TRY_ELSE(p->block && p->rows && p->probabilities, RETORT_MEMORY,
             "no memory for what is said of %d pictures", q->count);
fail:
    return rc;
}

static void close_predictor(struct predictor *p)
{
    if (p->engine) {
        engine_free(p->engine, p->block);
        evaluator_close(&p->evaluator, p->engine);
    }
    engine_close(&p->engine);
    network_file_free(&p->file);
    free(p->pixels);
    free(p->rows);
    free(p->probabilities);
}

static double value_at(const struct predictor *p, size_t i)
{
    return engine_real(p->engine) == REAL_F64 ? ((const double *)p->rows)[i]
                                              : (double)((const float *)p->rows)[i];
}

// softmax of a row of logits. RETORT_NUMERIC when they are not finite.
static int softmax(double *out, const struct predictor *p, size_t row, const char *picture)
{
    size_t classes = (size_t)p->file.graph->classes, first = row * classes;
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < classes; i++) {
        out[i] = value_at(p, first + i);
        if (!isfinite(out[i]))
            return FAIL(RETORT_NUMERIC, "%s: the network's output is not finite", picture);
        largest = out[i] > largest ? out[i] : largest;
    }
    for (size_t i = 0; i < classes; i++)
        sum += out[i] = exp(out[i] - largest);
    for (size_t i = 0; i < classes; i++)
        out[i] /= sum;
    return RETORT_OK;
}

// Pictures [first, first + count), count <= DATASET_BLOCK: as in an evaluation the block is padded
// with its first picture.
static int predict_block(struct predictor *p, const struct predict_request *q, int first, int count)
{
    int64_t slot[DATASET_BLOCK];
    size_t classes = (size_t)p->file.graph->classes;
    int rc;
    for (int i = 0; i < DATASET_BLOCK; i++)
        slot[i] = i < count ? i : 0;
    struct picture_batch batch = {.pixels = p->block,
                                  .slot = slot,
                                  .sample_id = slot,
                                  .count = DATASET_BLOCK,
                                  .augment = AUGMENT_NONE};
    TRY(engine_upload(p->engine, p->block, p->pixels + (size_t)first * p->picture_bytes,
                      (size_t)count * p->picture_bytes));
    TRY(input_load(p->evaluator.input, &batch, NULL));
    TRY(network_forward(p->evaluator.network, p->evaluator.input, FORWARD_EVAL));
    TRY(engine_download(p->engine, p->rows, network_logits(p->evaluator.network),
                        (size_t)count * classes * real_bytes(engine_real(p->engine))));
    for (int i = 0; i < count; i++)
        TRY(softmax(p->probabilities + ((size_t)first + i) * classes, p, (size_t)i,
                    q->pictures[first + i]));
fail:
    return rc;
}

// The likeliest classes in order, as many as there are up to SHOWN; of equals the lowest first.
static int likeliest(int top[SHOWN], const double *probabilities, int classes)
{
    int count = 0;
    for (int c = 0; c < classes; c++) {
        int at = count < SHOWN ? count++ : SHOWN;
        for (; at > 0 && probabilities[c] > probabilities[top[at - 1]]; at--)
            if (at < SHOWN)
                top[at] = top[at - 1];
        if (at < SHOWN)
            top[at] = c;
    }
    return count;
}

static void print_text(const struct predictor *p, const char *picture, const double *probabilities)
{
    int top[SHOWN] = {0}, count = likeliest(top, probabilities, p->file.graph->classes);
    printf("%s\n", picture);
    for (int i = 0; i < count; i++)
        printf("  %6.2f %%  %s\n", 100 * probabilities[top[i]],
               network_facts_class(&p->file.facts, top[i]));
}

static void print_json(const struct predictor *p, const char *picture, const double *probabilities)
{
    int top[SHOWN] = {0}, count = likeliest(top, probabilities, p->file.graph->classes);
    json_t *list = json_array(), *name = json_string(picture); // a file's name may be no text
    for (int i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s,s:i,s:f}", "class",
                                              network_facts_class(&p->file.facts, top[i]), "index",
                                              top[i], "probability", probabilities[top[i]]));
    json_t *j = json_pack("{s:o,s:o}", "picture", name ? name : json_null(), "top", list);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(j);
}

int predict(const struct predict_request *q)
{
    struct predictor p = {0};
    int rc;
    TRY(open_predictor(&p, q));
    for (int first = 0; first < q->count; first += DATASET_BLOCK) {
        int left = q->count - first;
        TRY(predict_block(&p, q, first, left < DATASET_BLOCK ? left : DATASET_BLOCK));
    }
    for (int i = 0; i < q->count; i++)
        (q->as_json ? print_json : print_text)(
            &p, q->pictures[i], p.probabilities + (size_t)i * (size_t)p.file.graph->classes);
    TRY_ELSE(fflush(stdout) == 0, RETORT_WRITE, "cannot write to standard output");
fail:
    close_predictor(&p);
    return rc;
}
