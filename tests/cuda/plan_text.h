#pragma once
// Plans of the CUDA engine that are written, not timed.

#include <stdbool.h>

#include "models/graph.h"

// Engine 0 for every product, where cuDNN accepts that, else the first that it offers: by its head
// it is another batch's plan. BatchNorm's sums come with the products before and behind it, or
// apart. The caller's to free.
char *plan_text(const struct graph *g, bool sums);
// How often the plan has the word: " sums=", " insums=".
int plan_text_count(const char *plan, const char *word);
