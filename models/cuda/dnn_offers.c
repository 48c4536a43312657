// What cuDNN's heuristics offer for a graph.

#include <stdlib.h>
#include <string.h>

#include "models/cuda/dnn_desc.h"

enum { OFFERS_MAX = 64 }; // of one mode
static const int MODES[DNN_MODES] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                     CUDNN_HEUR_MODE_FALLBACK};

static bool read_knobs(dnn_desc config, struct dnn_offer *out)
{
    dnn_desc choices[DNN_KNOBS] = {NULL};
    int64_t count = 0;
    bool good = true;
    for (int i = 0; i < DNN_KNOBS && good; i++)
        good = dnn_desc_create(&choices[i], CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR) == RETORT_OK;
    good = good && cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, DNN_KNOBS, &count,
                                            (void *)choices) == CUDNN_STATUS_SUCCESS;
    out->knob_count = good ? (int)count : 0;
    for (int i = 0; i < out->knob_count && good; i++) {
        cudnnBackendKnobType_t type;
        good = dnn_get(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, &type) &&
               dnn_get(choices[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64,
                       &out->value[i]);
        out->knob[i] = (int32_t)type;
    }
    for (int i = 0; i < DNN_KNOBS; i++)
        dnn_desc_destroy(&choices[i]);
    return good;
}

static bool read_offer(dnn_desc config, struct dnn_offer *out)
{
    dnn_desc engine = NULL;
    memset(out, 0, sizeof(*out));
    bool good = dnn_desc_create(&engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR) == RETORT_OK &&
                dnn_get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                        (void *)&engine) &&
                dnn_get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, &out->engine) &&
                read_knobs(config, out);
    dnn_desc_destroy(&engine);
    return good;
}

static bool same_offer(const struct dnn_offer *a, const struct dnn_offer *b)
{
    return a->engine == b->engine && a->knob_count == b->knob_count &&
           memcmp(a->knob, b->knob, sizeof(a->knob)) == 0 &&
           memcmp(a->value, b->value, sizeof(a->value)) == 0;
}

static void add_offer(struct dnn_offer *offers, int *count, const struct dnn_offer *offer)
{
    for (int i = 0; i < *count; i++)
        if (same_offer(&offers[i], offer))
            return;
    offers[(*count)++] = *offer;
}

// The heuristics of one mode; those that have nothing for this graph add nothing.
static int ask(const struct dnn_target *target, dnn_desc graph, int mode, dnn_desc *configs,
               int64_t *count)
{
    dnn_desc heuristics = NULL;
    int rc = RETORT_OK;
    *count = 0;
    TRY(dnn_desc_create(&heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR));
    TRY(dnn_set_descs(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 1, &graph));
    TRY(dnn_set_enum(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode));
    if (target->device != NULL)
        TRY(dnn_set_descs(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, 1, &target->device));
    if (cudnnBackendFinalize(heuristics) == CUDNN_STATUS_SUCCESS)
        (void)cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                       CUDNN_TYPE_BACKEND_DESCRIPTOR, OFFERS_MAX, count,
                                       (void *)configs);
fail:
    dnn_desc_destroy(&heuristics);
    return rc;
}

static int add_mode(const struct dnn_target *target, dnn_desc graph, int mode,
                    struct dnn_offer *offers, int *count)
{
    dnn_desc configs[OFFERS_MAX] = {NULL};
    struct dnn_offer offer;
    int64_t there = 0;
    int rc = RETORT_OK;
    for (int i = 0; i < OFFERS_MAX; i++)
        TRY(dnn_desc_create(&configs[i], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    TRY(ask(target, graph, MODES[mode], configs, &there));
    for (int64_t i = 0; i < there && i < OFFERS_MAX; i++)
        if (read_offer(configs[i], &offer)) {
            offer.mode = mode;
            add_offer(offers, count, &offer);
        }
fail:
    for (int i = 0; i < OFFERS_MAX; i++)
        dnn_desc_destroy(&configs[i]);
    return rc;
}

int dnn_offers(struct dnn_offer **offers, int *count, const struct dnn_target *target,
               dnn_desc graph)
{
    int rc = RETORT_OK;
    *count = 0;
    *offers = calloc((size_t)DNN_MODES * OFFERS_MAX, sizeof(**offers));
    TRY_ELSE(*offers != NULL, RETORT_MEMORY, "no memory for cuDNN's offers");
    for (int i = 0; i < DNN_MODES; i++)
        TRY(add_mode(target, graph, i, *offers, count));
fail:
    if (rc != RETORT_OK) {
        free(*offers);
        *offers = NULL;
    }
    return rc;
}
