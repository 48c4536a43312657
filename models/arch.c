#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "models/graph_build.h"

enum { MAX_CONVS = 12, HIDDEN = 512, POOL = 2 };

// 3×3 convolutions, each with norm and activation, one average pool, FC + activation, output.
struct arch {
    const char *name;
    int convs;
    int channels[MAX_CONVS], stride[MAX_CONVS];
};

static const struct arch ARCHS[] = {
    {"conv12",
     12,
     {12, 12, 24, 24, 48, 48, 96, 96, 192, 192, 192, 192},
     {1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1}},
    {"conv4", 4, {12, 24, 48, 96}, {1, 2, 2, 2}},
};

const char *graph_archs(void)
{
    return "conv12, conv4";
}

// "conv12/4" -> conv12's row and a divisor of 4; NULL when it is not a name of ours.
static const struct arch *arch_find(const char *text, int *divisor)
{
    size_t length = strcspn(text, "/");
    *divisor = 1;
    if (text[length] == '/') {
        char *end;
        long k = strtol(text + length + 1, &end, 10);
        if (end == text + length + 1 || *end != '\0' || k < 2 || k > 12 || 12 % k != 0)
            return NULL;
        *divisor = (int)k;
    }
    for (size_t i = 0; i < sizeof(ARCHS) / sizeof(ARCHS[0]); i++)
        if (strlen(ARCHS[i].name) == length && strncmp(text, ARCHS[i].name, length) == 0)
            return &ARCHS[i];
    return NULL;
}

// Layer `number` (from 1): conv, norm, activation.
static int add_conv_block(struct graph *g, int number, int channels, int stride,
                          const struct graph_options *options)
{
    char name[24];
    int rc = RETORT_OK;
    bool norm = options->norm != NORM_NONE;
    snprintf(name, sizeof(name), "conv%d", number);
    TRY(graph_add_conv(g, name, channels, 3, stride, !norm));
    if (norm) {
        snprintf(name, sizeof(name), "norm%d", number);
        TRY(graph_add_batchnorm(g, name, options->norm == NORM_BATCH_SYNC));
    }
    snprintf(name, sizeof(name), "act%d", number);
    TRY(graph_add_activation(g, name, options->activation));
fail:
    return rc;
}

int graph_create(struct graph **out, const char *arch, const struct graph_options *options)
{
    struct graph *g = NULL;
    int rc = RETORT_OK, divisor;
    *out = NULL;
    const struct arch *a = arch_find(arch, &divisor);
    TRY_ELSE(a != NULL, RETORT_USAGE,
             "unknown network \"%s\"; there are %s (and narrow ones for tests: conv4/4)", arch,
             graph_archs());
    TRY_ELSE(options->classes >= 1, RETORT_USAGE, "%s: %d classes; at least 1 is needed", arch,
             options->classes);
    TRY(graph_begin(&g, arch, options->channels, options->height, options->width));
    for (int i = 0; i < a->convs; i++)
        TRY(add_conv_block(g, i + 1, a->channels[i] / divisor, a->stride[i], options));
    TRY(graph_add_avgpool(g, "pool", POOL));
    TRY(graph_add_linear(g, "fc1", HIDDEN / divisor));
    TRY(graph_add_activation(g, "act_fc1", options->activation));
    TRY(graph_add_linear(g, "fc2", options->classes));
    TRY(graph_finish(g));
    *out = g;
    return RETORT_OK;
fail:
    graph_destroy(&g);
    return rc;
}
