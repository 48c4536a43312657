#pragma once
// Where a rank's pictures lie: on its GPU where it has one with room to spare, else in the host's
// memory.

#include "worker/rank.h"

// Collective. Opens the shard of a split of r->dataset; the engine is open, and joined to others.
// `trains`: for the stages of r->recipe, else to be looked at as it is in the file.
int pictures_open(struct shard **out, struct rank *r, enum dataset_split split, bool trains);
