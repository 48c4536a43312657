#include "models/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "models/cuda_libraries.h"

_Static_assert((int)PLUGIN_WHY >= (int)CUDA_LIBRARIES_WHY, "one's reason is the other's");

// The software GPU is test equipment: the CUDA engine's own files over a runtime for the CPU.
static const char *library_of(const char *device)
{
    if (strcmp(device, "cuda") == 0)
        return "libretort_cuda.so";
    return strcmp(device, "softgpu") == 0 ? "libretort_softgpu.so" : NULL;
}

bool plugin_is(const char *device)
{
    return library_of(device) != NULL;
}

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

// NULL, and the reason in `why`, when it can't be opened. What the CUDA engine needs may lie where
// the loader does not look; where it does, that is what the engine was built with, and is left to
// it.
static void *open_library(const char *path, const char *device, char why[PLUGIN_WHY])
{
    const bool cuda = strcmp(device, "cuda") == 0;
    if (cuda)
        cuda_libraries_open_named();
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL && cuda) {
        if (!cuda_libraries_open(why))
            return NULL;
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (handle == NULL)
        snprintf(why, PLUGIN_WHY, "its engine cannot be loaded: %s", dlerror());
    return handle;
}

bool plugin_find(void *out, const char *device, const char *name, char why[PLUGIN_WHY])
{
    char folder[PATH_MAX], path[PATH_MAX + 64];
    const char *library = library_of(device);
    CHECK(library != NULL);
    plugin_folder(folder);
    snprintf(path, sizeof(path), "%s/%s", folder, library);
    if (access(path, R_OK) != 0) {
        snprintf(why, PLUGIN_WHY, "there is no %s in %.512s: this build has no such engine",
                 library, folder);
        return false;
    }
    void *handle = open_library(path, device, why);
    if (handle == NULL)
        return false;
    void *symbol = dlsym(handle, name);
    if (symbol == NULL) {
        snprintf(why, PLUGIN_WHY, "%.512s is no engine of ours", path);
        return false;
    }
    memcpy(out, &symbol, sizeof(symbol)); // a function's address, which C keeps apart from others
    return true;
}

int plugin_open(struct engine **out, const struct engine_options *options)
{
    int (*entry)(struct engine **, const struct engine_options *);
    char why[PLUGIN_WHY];
    if (!plugin_find(&entry, options->device, ENGINE_PLUGIN_OPEN, why))
        return FAIL(RETORT_USAGE, "device %s: %s; use --device cpu", options->device, why);
    return entry(out, options);
}
