#include "models/cuda_libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const cuda_library_names[CUDA_LIBRARIES] = {"libcudnn.so.9", "libnccl.so.2"};

static const char NAMED[] = "RETORT_CUDA_PATH";

// Folders below the one that a variable names; without a variable, of this name.
static const struct {
    const char *variable, *below;
} PLACES[] = {
    {"VIRTUAL_ENV", "/lib/python3*/site-packages/nvidia/*/lib"},
    {"CUDA_HOME", "/lib64"},
    {"CUDA_HOME", "/lib"},
    {NULL, "/usr/local/cuda/lib64"},
    {NULL, "/usr/local/cuda/lib"},
};
// The same of RETORT_CUDA_PATH's folders.
static const char *const BELOW_NAMED[] = {"", "/lib64", "/lib", "/nvidia/*/lib"};

static bool is_open(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL)
        return false;
    dlclose(handle); // whoever opened it keeps it
    return true;
}

// The first of the files that fit FOLDER BELOW/NAME and can be opened. What is there and cannot be
// is kept in `why`.
static bool open_in(const char *folder, const char *below, const char *name,
                    char why[CUDA_LIBRARIES_WHY])
{
    char pattern[PATH_CAPACITY];
    glob_t found;
    bool opened = false;
    if (snprintf(pattern, sizeof pattern, "%s%s/%s", folder, below, name) >= (int)sizeof pattern ||
        glob(pattern, 0, NULL, &found) != 0)
        return false;
    for (size_t i = 0; i < found.gl_pathc && !opened; i++) {
        opened = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL) != NULL;
        if (!opened)
            (void)snprintf(why, CUDA_LIBRARIES_WHY, "%s cannot be opened: %.900s", name, dlerror());
    }
    globfree(&found);
    return opened;
}

static bool open_named(const char *name, char why[CUDA_LIBRARIES_WHY])
{
    const char *set = getenv(NAMED);
    char *folders = strdup(set ? set : ""), *rest = folders;
    bool opened = false;
    for (char *folder; !opened && rest && (folder = strsep(&rest, ":")) != NULL;)
        for (size_t i = 0; *folder && !opened && i < sizeof BELOW_NAMED / sizeof BELOW_NAMED[0];
             i++)
            opened = open_in(folder, BELOW_NAMED[i], name, why);
    free(folders);
    return opened;
}

static bool open_anywhere(const char *name, char why[CUDA_LIBRARIES_WHY])
{
    if (open_named(name, why) || dlopen(name, RTLD_NOW | RTLD_GLOBAL) != NULL)
        return true;
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        const char *folder = PLACES[i].variable ? getenv(PLACES[i].variable) : "";
        if (folder && (*folder || !PLACES[i].variable) &&
            open_in(folder, PLACES[i].below, name, why))
            return true;
    }
    return false;
}

// "NAME=value" or "NAME (not set)", into `out`, which it returns.
static const char *setting(char out[256], const char *name)
{
    const char *value = getenv(name);
    if (value && *value)
        (void)snprintf(out, 256, "%s=%.200s", name, value);
    else
        (void)snprintf(out, 256, "%s (not set)", name);
    return out;
}

static void say_missing(const char *name, char why[CUDA_LIBRARIES_WHY])
{
    char named[256], environment[256], toolkit[256];
    (void)snprintf(why, CUDA_LIBRARIES_WHY,
                   "there is no %s where the loader looks, nor in %s, %s, %s, /usr/local/cuda: "
                   "install it, or name its folder in %s",
                   name, setting(named, NAMED), setting(environment, "VIRTUAL_ENV"),
                   setting(toolkit, "CUDA_HOME"), NAMED);
}

void cuda_libraries_open_named(void)
{
    char why[CUDA_LIBRARIES_WHY];
    for (int i = 0; i < CUDA_LIBRARIES; i++)
        (void)open_named(cuda_library_names[i], why);
}

bool cuda_libraries_open(char why[CUDA_LIBRARIES_WHY])
{
    for (int i = 0; i < CUDA_LIBRARIES; i++) {
        const char *name = cuda_library_names[i];
        why[0] = '\0';
        if (is_open(name) || open_anywhere(name, why))
            continue;
        if (why[0] == '\0')
            say_missing(name, why);
        return false;
    }
    return true;
}

bool cuda_library_path(char path[PATH_CAPACITY], const char *name)
{
    struct link_map *map = NULL;
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    bool known = handle != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != NULL;
    if (known)
        (void)snprintf(path, PATH_CAPACITY, "%s", map->l_name);
    if (handle != NULL)
        dlclose(handle);
    return known;
}
