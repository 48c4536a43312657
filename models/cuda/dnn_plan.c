// Plans: an offer that cuDNN has accepted for a graph, and its runs.

#include <string.h>

#include "models/cuda/dnn_desc.h"

// Refusals are expected here, and silent: the caller has other offers, or says so itself.
static bool quietly(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    int64_t count, const void *values)
{
    return cudnnBackendSetAttribute(d, name, type, count, values) == CUDNN_STATUS_SUCCESS;
}

static bool finalized(dnn_desc d)
{
    return cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS;
}

static bool engine_new(dnn_desc *out, const struct dnn_target *target, dnn_desc graph,
                       int64_t index)
{
    return dnn_desc_create(out, CUDNN_BACKEND_ENGINE_DESCRIPTOR) == RETORT_OK &&
           quietly(*out, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                   (const void *)&graph) &&
           quietly(*out, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index) &&
           (target->device == NULL ||
            quietly(*out, CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                    (const void *)&target->device)) &&
           finalized(*out);
}

bool dnn_engine_notes(const struct dnn_target *target, dnn_desc graph, int64_t index,
                      uint32_t *notes)
{
    cudnnBackendNumericalNote_t list[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    dnn_desc engine = NULL;
    bool there = engine_new(&engine, target, graph, index);
    if (there)
        (void)cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                       CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                       &count, list);
    *notes = 0;
    for (int64_t i = 0; i < count; i++)
        *notes |= 1U << (unsigned)list[i];
    dnn_desc_destroy(&engine);
    return there;
}

static bool choice_new(dnn_desc *out, int32_t knob, int64_t value)
{
    return dnn_desc_create(out, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR) == RETORT_OK &&
           quietly(*out, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &knob) &&
           quietly(*out, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value) &&
           finalized(*out);
}

static bool config_new(dnn_desc *out, const struct dnn_target *target, dnn_desc graph,
                       const struct dnn_offer *offer)
{
    dnn_desc engine = NULL, choices[DNN_KNOBS] = {NULL};
    bool good = engine_new(&engine, target, graph, offer->engine) &&
                dnn_desc_create(out, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) == RETORT_OK &&
                quietly(*out, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                        (const void *)&engine);
    for (int i = 0; i < offer->knob_count && good; i++)
        good = choice_new(&choices[i], offer->knob[i], offer->value[i]);
    if (offer->knob_count > 0)
        good =
            good && quietly(*out, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                            offer->knob_count, (const void *)choices);
    good = good && finalized(*out);
    for (int i = 0; i < offer->knob_count; i++)
        dnn_desc_destroy(&choices[i]);
    dnn_desc_destroy(&engine);
    return good;
}

// Whether the last call failed only because there is no GPU to load code onto.
static bool only_loading_failed(void)
{
    const char *why = dnn_last_error();
    return strstr(why, "cuLibraryLoadData") != NULL || strstr(why, "cuModuleLoad") != NULL;
}

static bool plan_finalized(dnn_desc plan, const struct dnn_target *target, dnn_desc config)
{
    bool described = target->device != NULL;
    if (!quietly(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                 (const void *)&config))
        return false;
    if (described ? !quietly(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                             CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, (const void *)&target->device)
                  : !quietly(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                             (const void *)&target->handle))
        return false;
    return finalized(plan) || (described && only_loading_failed());
}

int dnn_plan_create(struct dnn_plan *out, bool *accepted, const struct dnn_target *target,
                    dnn_desc graph, const struct dnn_offer *offer)
{
    dnn_desc config = NULL;
    int rc = RETORT_OK;
    *out = (struct dnn_plan){0};
    *accepted = false;
    TRY(dnn_desc_create(&out->plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR));
    *accepted =
        config_new(&config, target, graph, offer) && plan_finalized(out->plan, target, config);
    if (*accepted)
        (void)dnn_get(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                      &out->workspace_bytes);
fail:
    dnn_desc_destroy(&config);
    if (!*accepted)
        dnn_plan_destroy(out);
    return rc;
}

void dnn_plan_destroy(struct dnn_plan *p)
{
    dnn_desc_destroy(&p->plan);
    *p = (struct dnn_plan){0};
}

// ---- calls

static int bind(struct dnn_call *c, void *const operands[DNN_OPERANDS], void *workspace)
{
    int64_t ids[DNN_OPERANDS], count = 0;
    int rc = RETORT_OK;
    for (; count < DNN_OPERANDS && operands[count] != NULL; count++)
        ids[count] = count + 1;
    dnn_call_free(c);
    TRY(dnn_desc_create(&c->pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
    TRY(dnn_set_ints(c->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, count, ids));
    TRY(dnn_set(c->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
                (const void *)operands));
    TRY(dnn_set(c->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                (const void *)&workspace));
    TRY(dnn_finalize(c->pack));
    memcpy(c->bound, operands, sizeof(c->bound));
    c->workspace = workspace;
fail:
    if (rc != RETORT_OK)
        dnn_call_free(c);
    return rc;
}

int dnn_call_run(struct dnn_call *c, const struct dnn_plan *p, cudnnHandle_t handle,
                 void *const operands[DNN_OPERANDS], void *workspace)
{
    int rc = RETORT_OK;
    if (c->pack == NULL || memcmp(c->bound, operands, sizeof(c->bound)) != 0 ||
        c->workspace != workspace)
        TRY(bind(c, operands, workspace));
    if (cudnnBackendExecute(handle, p->plan, c->pack) != CUDNN_STATUS_SUCCESS)
        rc = FAIL(RETORT_FAILED, "cuDNN cannot run a plan: %s", dnn_last_error());
fail:
    return rc;
}

void dnn_call_free(struct dnn_call *c)
{
    dnn_desc_destroy(&c->pack);
    *c = (struct dnn_call){0};
}
