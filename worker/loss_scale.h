#pragma once
// The loss scale of a run in fp16 (struct loss_scale of models/engine.h): made, saved, restored.

#include <jansson.h>

#include "base/recipe.h"
#include "models/engine.h"

// The first step's, in engine memory, the caller's to engine_free; NULL where the recipe's
// precision needs none.
int loss_scale_create(struct loss_scale **out, struct engine *e, const struct recipe *r);
// Sets "loss_scale" and "skipped_steps" of `line`, and with `state` what a resume needs besides;
// nothing for NULL. Waits for the engine.
int loss_scale_describe(json_t *line, struct engine *e, const struct loss_scale *scale, bool state);
// The same back from a checkpoint's state.
int loss_scale_restore(struct loss_scale *scale, struct engine *e, const json_t *state);
