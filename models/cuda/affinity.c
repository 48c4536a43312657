#include "models/cuda/affinity.h"

#include <cuda_runtime_api.h>
#include <stdio.h>

bool cores_near(hwloc_topology_t topology, const char *pci, hwloc_bitmap_t cores)
{
    hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(topology, pci);
    hwloc_obj_t place = device ? hwloc_get_non_io_ancestor_obj(topology, device) : NULL;
    if (!place || !place->cpuset)
        return false;
    hwloc_bitmap_copy(cores, place->cpuset);
    return true;
}

// This machine with its PCI devices; NULL when it cannot be looked at.
static hwloc_topology_t look(void)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) != 0)
        return NULL;
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(topology) == 0)
        return topology;
    hwloc_topology_destroy(topology);
    return NULL;
}

static bool find_address(int device, char pci[REPORT_TEXT])
{
    pci[0] = '\0';
    return cudaDeviceGetPCIBusId(pci, REPORT_TEXT, device) == cudaSuccess && pci[0] != '\0';
}

void cuda_place(int device, char pci[REPORT_TEXT], char near[REPORT_TEXT])
{
    hwloc_topology_t topology = find_address(device, pci) ? look() : NULL;
    hwloc_bitmap_t cores = hwloc_bitmap_alloc();
    near[0] = '\0';
    if (topology && cores && cores_near(topology, pci, cores))
        (void)hwloc_bitmap_list_snprintf(near, REPORT_TEXT, cores);
    hwloc_bitmap_free(cores);
    if (topology)
        hwloc_topology_destroy(topology);
}

void cuda_bind_near(int device)
{
    char pci[REPORT_TEXT];
    hwloc_topology_t topology = find_address(device, pci) ? look() : NULL;
    hwloc_bitmap_t near = hwloc_bitmap_alloc(), own = hwloc_bitmap_alloc();
    if (topology && near && own && cores_near(topology, pci, near) &&
        hwloc_get_cpubind(topology, own, HWLOC_CPUBIND_PROCESS) == 0) {
        hwloc_bitmap_and(near, near, own);
        if (!hwloc_bitmap_iszero(near) && !hwloc_bitmap_isequal(near, own))
            (void)hwloc_set_cpubind(topology, near,
                                    HWLOC_CPUBIND_PROCESS); // else slower, not wrong
    }
    hwloc_bitmap_free(near);
    hwloc_bitmap_free(own);
    if (topology)
        hwloc_topology_destroy(topology);
}
