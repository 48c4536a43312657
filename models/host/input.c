#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "models/host/host.h"

enum { RGB = 3, LEVELS = 256 };

static size_t picture_bytes(const struct host_input *in)
{
    return (size_t)in->format.height * in->format.width * RGB;
}

// table[channel][pixel] = (pixel / 255 - mean) / deviation, made in double.
static void table_fill(struct host_input *in)
{
    for (int c = 0; c < RGB; c++)
        for (int v = 0; v < LEVELS; v++) {
            double normal = (v / 255.0 - in->format.mean[c]) / in->format.deviation[c];
            if (in->engine->real == REAL_F64)
                ((double *)in->table)[c * LEVELS + v] = normal;
            else
                ((float *)in->table)[c * LEVELS + v] = (float)normal;
        }
}

int host_input_create(struct input **out, struct engine *e, const struct picture_format *format,
                      int max_count)
{
    int rc = RETORT_OK;
    struct host_engine *engine = host_engine_of(e);
    struct host_input *in = calloc(1, sizeof(*in));
    TRY_ELSE(in != NULL, RETORT_MEMORY, "no memory for a batch of pictures");
    in->base.ops = e->ops;
    in->engine = engine;
    in->format = *format;
    in->max_count = max_count;
    CHECK(format->height > 0 && format->width > 0 && max_count > 0);
    for (int c = 0; c < RGB; c++)
        TRY_ELSE(format->deviation[c] > 0.0, RETORT_INPUT,
                 "channel %d of the data set has deviation %g, so that it cannot be normalised; "
                 "are all its pictures one colour?",
                 c, format->deviation[c]);
    size_t real = real_bytes(engine->real);
    in->values = host_calloc((size_t)max_count * picture_bytes(in) * real);
    in->table = host_calloc(RGB * LEVELS * real);
    in->scratch = host_calloc((size_t)engine->threads * picture_bytes(in));
    TRY_ELSE(in->values != NULL && in->table != NULL && in->scratch != NULL, RETORT_MEMORY,
             "no memory for a batch of %d pictures of %d x %d", max_count, format->height,
             format->width);
    table_fill(in);
    *out = &in->base;
    return RETORT_OK;
fail:
    if (in != NULL)
        host_input_destroy(&in->base);
    return rc;
}

void host_input_destroy(struct input *base)
{
    struct host_input *in = (struct host_input *)base;
    free(in->values);
    free(in->table);
    free(in->scratch);
    free(in);
}

size_t host_input_memory(const struct input *base)
{
    const struct host_input *in = host_input_of(base);
    size_t real = real_bytes(in->engine->real);
    return (size_t)in->max_count * picture_bytes(in) * real + RGB * LEVELS * real +
           (size_t)in->engine->threads * picture_bytes(in);
}

// One row of the window. Columns [begin, end) of an unflipped one read no reflected pixel and are
// one copy.
static void augment_row(uint8_t *restrict to, const uint8_t *restrict from,
                        struct augment_choice choice, int width)
{
    int begin = choice.dx < 0 ? -choice.dx : 0, end = choice.dx > 0 ? width - choice.dx : width;
    for (int x = 0; x < width; x++) {
        if (x == begin && !choice.flip) {
            memcpy(to + (size_t)x * RGB, from + (size_t)(x + choice.dx) * RGB,
                   (size_t)(end - begin) * RGB);
            x = end - 1;
            continue;
        }
        int mirrored = choice.flip ? width - 1 - x : x;
        memcpy(to + (size_t)x * RGB,
               from + (size_t)augment_reflect(mirrored + choice.dx, width) * RGB, RGB);
    }
}

static void augment_picture(uint8_t *restrict to, const uint8_t *restrict from,
                            struct augment_choice choice, int height, int width)
{
    size_t row = (size_t)width * RGB;
    for (int y = 0; y < height; y++)
        augment_row(to + (size_t)y * row,
                    from + (size_t)augment_reflect(y + choice.dy, height) * row, choice, width);
}

#define NORMALISE(real, suffix)                                                                    \
    static void normalise_##suffix(real *restrict to, const uint8_t *restrict from,                \
                                   const real *restrict table, size_t pixels)                      \
    {                                                                                              \
        const real *red = table, *green = table + LEVELS, *blue = table + 2 * LEVELS;              \
        for (size_t i = 0; i < pixels; i++) {                                                      \
            to[i] = red[from[RGB * i]];                                                            \
            to[pixels + i] = green[from[RGB * i + 1]];                                             \
            to[2 * pixels + i] = blue[from[RGB * i + 2]];                                          \
        }                                                                                          \
    }
NORMALISE(float, f32)
NORMALISE(double, f64)

struct load_job {
    struct host_input *in;
    const struct picture_batch *batch;
    uint64_t *digests;
};

static void load_part(void *context, int part, size_t begin, size_t end)
{
    const struct load_job *job = context;
    const struct picture_batch *batch = job->batch;
    struct host_input *in = job->in;
    int height = in->format.height, width = in->format.width;
    size_t bytes = picture_bytes(in), pixels = (size_t)height * width;
    uint8_t *picture = in->scratch + (size_t)part * bytes;
    for (size_t i = begin; i < end; i++) {
        struct augment_choice choice = augment_choose(batch->augment, batch->seed, batch->domain,
                                                      batch->view, (uint64_t)batch->sample_id[i]);
        augment_picture(picture, batch->pixels + (size_t)batch->slot[i] * bytes, choice, height,
                        width);
        if (job->digests != NULL)
            job->digests[i] = XXH3_64bits(picture, bytes);
        if (in->engine->real == REAL_F64)
            normalise_f64((double *)in->values + i * bytes, picture, in->table, pixels);
        else
            normalise_f32((float *)in->values + i * bytes, picture, in->table, pixels);
    }
}

int host_input_load(struct input *base, const struct picture_batch *batch, uint64_t *digests)
{
    struct host_input *in = (struct host_input *)base;
    CHECK(batch->count >= 0 && batch->count <= in->max_count);
    if (batch->augment == AUGMENT_CROP_FLIP &&
        (in->format.height <= AUGMENT_PADDING || in->format.width <= AUGMENT_PADDING))
        return FAIL(RETORT_USAGE,
                    "pictures of %d x %d are too small for crop_flip, which reflects %d pixels; "
                    "use data.augment: none",
                    in->format.height, in->format.width, AUGMENT_PADDING);
    struct load_job job = {.in = in, .batch = batch, .digests = digests};
    host_parallel(in->engine->threads, (size_t)batch->count, 1, load_part, &job);
    in->count = batch->count;
    return RETORT_OK;
}

int host_input_load_values(struct input *base, const double *values, int count)
{
    struct host_input *in = (struct host_input *)base;
    CHECK(count >= 0 && count <= in->max_count);
    size_t total = (size_t)count * picture_bytes(in);
    for (size_t i = 0; i < total; i++) {
        if (in->engine->real == REAL_F64)
            ((double *)in->values)[i] = values[i];
        else
            ((float *)in->values)[i] = (float)values[i];
    }
    in->count = count;
    return RETORT_OK;
}
