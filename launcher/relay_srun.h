#pragma once
// What srun says of its ranks, for relay.c.

#include "launcher/relay.h"

// True for a line of srun or of Slurm's own part in a rank's node: no words of the ranks. What it
// says of one that died or left is kept.
bool relay_hears_srun(struct relay *r, const char *line);
