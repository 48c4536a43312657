#pragma once
// This machine's GPUs. The launcher links no CUDA: retort-worker asks its plug-in and says.

#include <jansson.h>
#include <stdbool.h>

// {"libraries", "files", "driver", "why", "gpus": [{"name", "major", "minor", "memory_bytes",
// "free_bytes", "pci", "near", "why"}]}, the caller's; NULL when there is nobody to ask. Prints
// nothing.
json_t *gpus_ask(const char *device);

// Whether the device, settled, is GPUs.
bool gpus_are(const char *device);

// Makes "auto" in *device what it stands for: cuda where this machine has a GPU that can be used,
// else cpu. Returns how many ranks the device is for, one a GPU; 0 when it has none. With `ranks`,
// which somebody has chosen, it looks only where it must, and may return 0.
int gpus_settle(const char **device, int ranks);
