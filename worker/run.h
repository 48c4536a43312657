#pragma once
// What a rank does from start to end.

#include "comm/comm.h"

// Collective. All stages of a run folder's recipe (or those named in `stages`, comma separated;
// NULL or "": the recipe's), each from where it stands.
int run_stages(struct comm *comm, const char *folder, const char *device, const char *stages,
               bool *agreed);
