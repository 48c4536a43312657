#include "worker/loss_scale.h"

#include "base/error.h"

int loss_scale_create(struct loss_scale **out, struct engine *e, const struct recipe *r)
{
    const struct loss_scale first = {.scale = (float)r->run.loss_scale,
                                     .growth_steps = r->run.loss_scale_steps};
    *out = NULL;
    if (r->run.precision != PRECISION_FP16)
        return RETORT_OK;
    *out = engine_alloc(e, sizeof first);
    return *out ? engine_upload(e, *out, &first, sizeof first) : RETORT_MEMORY;
}

int loss_scale_describe(json_t *line, struct engine *e, const struct loss_scale *scale, bool state)
{
    struct loss_scale now;
    int rc = RETORT_OK;
    if (!scale)
        return rc;
    TRY(engine_download(e, &now, scale, sizeof now));
    json_object_set_new(line, "loss_scale", json_real((double)now.scale));
    json_object_set_new(line, "skipped_steps", json_integer(now.skipped));
    if (state)
        json_object_set_new(line, "good_steps", json_integer(now.good_steps));
fail:
    return rc;
}

int loss_scale_restore(struct loss_scale *scale, struct engine *e, const json_t *state)
{
    struct loss_scale now;
    const json_t *value = json_object_get(state, "loss_scale");
    int rc = RETORT_OK;
    if (!scale)
        return rc;
    TRY_ELSE(json_is_real(value), RETORT_INPUT,
             "the state of a checkpoint in fp16 lacks its loss scale");
    TRY(engine_download(e, &now, scale, sizeof now)); // growth_steps: the recipe's
    now.scale = (float)json_real_value(value);
    now.skipped = json_integer_value(json_object_get(state, "skipped_steps"));
    now.good_steps = json_integer_value(json_object_get(state, "good_steps"));
    TRY(engine_upload(e, scale, &now, sizeof now));
fail:
    return rc;
}
