#pragma once
// The checkpoints of a folder by their names: what checkpoint.c and checkpoint_folder.c share.

#include <stdint.h>

#include "data/checkpoint.h"

// "<folder>/ckpt-<step>.h5", nine digits, into out[PATH_CAPACITY].
int checkpoint_path(char *out, const char *folder, int64_t step);
// Removes what killed writers of checkpoints left in the folder.
void checkpoint_sweep(const char *folder);
// Removes checkpoints past the newest `keep` whole ones, but not the one best.h5 is a link to.
int checkpoint_retain(const char *folder, int64_t keep);
