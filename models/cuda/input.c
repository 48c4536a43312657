// A batch of pictures in the engine's layout.

#include <stdlib.h>
#include <xxhash.h>

#include "models/cuda/cuda.h"
#include "models/cuda/kernels/augment.h"

enum { RGB = 3, LEVELS = 256 };

static struct cuda_input *input_of(struct input *in)
{
    return (struct cuda_input *)in;
}

static size_t picture_pixels(const struct cuda_input *in)
{
    return (size_t)in->format.height * in->format.width;
}

static size_t values_bytes(const struct cuda_input *in)
{
    return (size_t)in->max_count * picture_pixels(in) * CHANNEL_UNIT *
           element_bytes(in->engine->type);
}

static size_t pixels_bytes(const struct cuda_input *in)
{
    return (size_t)in->max_count * picture_pixels(in) * RGB;
}

// table[channel][pixel] = (pixel / 255 - mean) / deviation, made in double, as the host engines'.
static int table_upload(struct cuda_input *in)
{
    float table[RGB][LEVELS];
    for (int c = 0; c < RGB; c++)
        for (int v = 0; v < LEVELS; v++)
            table[c][v] = (float)((v / 255.0 - in->format.mean[c]) / in->format.deviation[c]);
    return in->base.ops->upload(&in->engine->base, in->table, table, sizeof(table));
}

static int buffers_create(struct cuda_input *in)
{
    struct cuda_engine *e = in->engine;
    int rc = RETORT_OK;
    TRY(cuda_memory(e, values_bytes(in), &in->values));
    TRY(cuda_memory(e, RGB * LEVELS * sizeof(float), &in->table));
    TRY(cuda_staged_create(&in->staged, &e->base, &in->format, in->max_count));
    TRY(table_upload(in));
fail:
    return rc;
}

int cuda_input_create(struct input **out, struct engine *e, const struct picture_format *format,
                      int max_count)
{
    int rc = RETORT_OK;
    struct cuda_input *in = calloc(1, sizeof(*in));
    TRY_ELSE(in != NULL, RETORT_MEMORY, "no memory for a batch of pictures");
    in->base.ops = e->ops;
    in->engine = cuda_engine_of(e);
    in->format = *format;
    in->max_count = max_count;
    CHECK(format->height > 0 && format->width > 0 && max_count > 0);
    for (int c = 0; c < RGB; c++)
        TRY_ELSE(format->deviation[c] > 0.0, RETORT_INPUT,
                 "channel %d of the data set has deviation %g, so that it cannot be normalised; "
                 "are all its pictures one colour?",
                 c, format->deviation[c]);
    TRY(buffers_create(in));
    *out = &in->base;
    return RETORT_OK;
fail:
    if (in != NULL)
        cuda_input_destroy(&in->base);
    return rc;
}

void cuda_input_destroy(struct input *base)
{
    struct cuda_input *in = input_of(base);
    (void)cudaFree(in->values);
    (void)cudaFree(in->table);
    (void)cudaFree(in->augmented);
    if (in->staged != NULL)
        cuda_staged_destroy(in->staged);
    free(in);
}

size_t cuda_input_memory(const struct input *base)
{
    const struct cuda_input *in = cuda_input_of(base);
    return values_bytes(in) + RGB * LEVELS * sizeof(float) +
           (in->augmented != NULL ? pixels_bytes(in) : 0) + cuda_staged_memory(in->staged);
}

// ---- loading

static int take_digests(struct cuda_input *in, int count, uint64_t *digests)
{
    size_t bytes = picture_pixels(in) * RGB;
    uint8_t *pixels = malloc((size_t)count * bytes + 1);
    int rc = RETORT_OK;
    TRY_ELSE(pixels != NULL, RETORT_MEMORY, "no memory for %d pictures", count);
    TRY(in->base.ops->download(&in->engine->base, pixels, in->augmented, (size_t)count * bytes));
    for (int i = 0; i < count; i++)
        digests[i] = XXH3_64bits(pixels + (size_t)i * bytes, bytes);
fail:
    free(pixels);
    return rc;
}

int cuda_input_load(struct input *base, const struct picture_batch *batch, uint64_t *digests)
{
    struct cuda_input *in = input_of(base);
    int height = in->format.height, width = in->format.width, rc = RETORT_OK;
    CHECK(batch->count >= 0 && batch->count <= in->max_count);
    if (batch->augment == AUGMENT_CROP_FLIP &&
        (height <= AUGMENT_PADDING || width <= AUGMENT_PADDING))
        return FAIL(RETORT_USAGE,
                    "pictures of %d x %d are too small for crop_flip, which reflects %d pixels; "
                    "use data.augment: none",
                    height, width, AUGMENT_PADDING);
    const struct cuda_staged *from = cuda_staged_of(in->staged);
    if (batch->staged != NULL)
        from = cuda_staged_of(batch->staged);
    else
        TRY(cuda_staged_put(in->staged, batch, NULL));
    CHECK(from->count == batch->count);
    if (digests != NULL && in->augmented == NULL)
        TRY(cuda_memory(in->engine, pixels_bytes(in), &in->augmented));
    struct augment_job job = {.source = from->source,
                              .slot = from->slot,
                              .sample_id = from->sample_id,
                              .table = in->table,
                              .values = in->values,
                              .augmented = digests != NULL ? in->augmented : NULL,
                              .count = batch->count,
                              .rows = in->max_count,
                              .height = height,
                              .width = width};
    TRY_CUDA(augment_launch(&job, in->engine->type, in->engine->stream));
    in->count = batch->count;
    if (digests != NULL)
        TRY(take_digests(in, batch->count, digests));
fail:
    return rc;
}

int cuda_input_load_values(struct input *base, const double *values, int count)
{
    struct cuda_input *in = input_of(base);
    struct cuda_engine *e = in->engine;
    size_t total = (size_t)count * picture_pixels(in) * RGB;
    float *narrow = malloc((total + 1) * sizeof(*narrow)), *device = NULL;
    int rc = RETORT_OK;
    CHECK(count >= 0 && count <= in->max_count);
    TRY_ELSE(narrow != NULL, RETORT_MEMORY, "no memory for %d pictures", count);
    TRY(cuda_memory(e, (total + 1) * sizeof(*device), &device));
    for (size_t i = 0; i < total; i++)
        narrow[i] = (float)values[i];
    TRY(in->base.ops->upload(&e->base, device, narrow, total * sizeof(*device)));
    TRY_CUDA(pictures_launch(in->values, device, count, in->max_count, in->format.height,
                             in->format.width, e->type, e->stream));
    in->count = count;
fail:
    free(narrow);
    (void)cudaFree(device);
    return rc;
}
