#include "launcher/machine.h"

#include <hwloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CPUINFO_LINE = 16384 };

int machine_cores(void)
{
    hwloc_topology_t topology;
    int cores = 0;
    if (hwloc_topology_init(&topology) == 0) {
        // A container or taskset may leave us fewer than the machine has.
        hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM |
                                               HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
        if (hwloc_topology_load(topology) == 0)
            cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
        hwloc_topology_destroy(topology);
    }
    if (cores < 1)
        cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores;
}

// The value of the first line of /proc/cpuinfo that starts with `key`; false when there is none.
static bool cpuinfo_value(const char *key, char *out, size_t out_bytes)
{
    char line[CPUINFO_LINE];
    bool found = false;
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, out_bytes, "%s", colon + 1 + strspn(colon + 1, " "));
        found = true;
    }
    if (file)
        fclose(file);
    return found;
}

void machine_processor(char *out, size_t out_bytes)
{
    if (!cpuinfo_value("model name", out, out_bytes))
        snprintf(out, out_bytes, "unknown processor");
}

void machine_features(const char *const *flags, size_t flag_count, char *out, size_t out_bytes)
{
    char all[CPUINFO_LINE] = "", padded[CPUINFO_LINE + 2], word[64];
    size_t used = 0;
    if (!cpuinfo_value("flags", all, sizeof all))
        cpuinfo_value("Features", all, sizeof all); // as ARM calls them
    snprintf(padded, sizeof padded, " %s ", all);
    out[0] = '\0';
    for (size_t i = 0; i < flag_count; i++) {
        snprintf(word, sizeof word, " %s ", flags[i]);
        if (!strstr(padded, word) || used >= out_bytes)
            continue;
        int added = snprintf(out + used, out_bytes - used, "%s%s", used ? " " : "", flags[i]);
        used += added > 0 ? (size_t)added : 0;
    }
}
