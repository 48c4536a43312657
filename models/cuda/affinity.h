#pragma once
// The processor cores near a GPU: on its own socket or NUMA node, where its rank's threads copy to
// it and start its work in the shortest time.

#include <hwloc.h>
#include <stdbool.h>

#include "models/plugin.h"

// Fills `cores` with those that the PCI device "0000:3b:00.0" is attached to; false when the
// topology, loaded with its PCI devices, does not know it.
bool cores_near(hwloc_topology_t topology, const char *pci, hwloc_bitmap_t cores);

// A GPU's PCI address, and a list of the cores near it such as "0-31,64-95"; "" is unknown.
void cuda_place(int device, char pci[REPORT_TEXT], char near[REPORT_TEXT]);
// Binds the calling process, with its threads and those to come, to those of its cores that are
// near the GPU; stays where it is when none is, as a job's own binding may have it.
void cuda_bind_near(int device);
