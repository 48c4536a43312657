#pragma once
// The stages that a command is to run: --stages, else the recipe's.

#include "base/recipe.h"

enum { STAGES_CAPACITY = 128 };

// `asked`: "teacher,logits" or NULL. RETORT_USAGE when there is none to run, or no such stage.
int stages_choose(bool chosen[STAGE_COUNT], const char *command, const char *asked,
                  const struct recipe *recipe);
// The chosen ones as "teacher,logits".
void stages_list(char out[STAGES_CAPACITY], const bool chosen[STAGE_COUNT]);
