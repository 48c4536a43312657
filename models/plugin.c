#include "models/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

// RETORT_PLUGINS, else the folder of the program that runs.
static void plugin_folder(char out[PATH_MAX])
{
    const char *asked = getenv("RETORT_PLUGINS");
    if (asked != NULL && *asked != '\0') {
        snprintf(out, PATH_MAX, "%s", asked);
        return;
    }
    ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - 1);
    out[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL)
        *slash = '\0';
}

int plugin_open(struct engine **out, const struct engine_options *options, const char *library)
{
    int (*entry)(struct engine **, const struct engine_options *);
    char folder[PATH_MAX], path[PATH_MAX + 64];
    plugin_folder(folder);
    snprintf(path, sizeof(path), "%s/%s", folder, library);
    if (access(path, R_OK) != 0)
        return FAIL(RETORT_USAGE,
                    "device %s: there is no %s in %s: this build has no such engine; use --device "
                    "cpu",
                    options->device, library, folder);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return FAIL(RETORT_USAGE, "device %s: its engine cannot be loaded: %s; use --device cpu",
                    options->device, dlerror());
    void *symbol = dlsym(handle, ENGINE_PLUGIN_ENTRY);
    if (symbol == NULL)
        return FAIL(RETORT_USAGE, "device %s: %s is no engine of ours", options->device, path);
    memcpy(&entry, &symbol, sizeof(entry));
    return entry(out, options);
}
