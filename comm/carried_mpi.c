#include "comm/carried_mpi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Debian's PMIx is configured with whole paths, which its prefix does not move.
const struct carried_mpi_setting carried_mpi_settings[CARRIED_MPI_SETTINGS] = {
    {"OPAL_PREFIX", ""},     {"OPAL_SYSCONFDIR", "/etc"}, {"PMIX_INSTALL_PREFIX", ""},
    {"PMIX_LIBDIR", "/lib"}, {"PMIX_DATADIR", "/share"},  {"PMIX_SYSCONFDIR", "/etc"},
};

// Cuts the last name of a path off; false when there is none.
static bool cut_name(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return false;
    *slash = '\0';
    return true;
}

bool carried_mpi_find(char home[PATH_CAPACITY], const char *worker)
{
    char path[PATH_CAPACITY], program[PATH_CAPACITY + 16];
    if (snprintf(path, sizeof path, "%s", worker) >= (int)sizeof path || !cut_name(path) ||
        !cut_name(path))
        return false;
    if (snprintf(home, PATH_CAPACITY, "%s/openmpi", path) >= PATH_CAPACITY)
        return false;
    (void)snprintf(program, sizeof program, "%s/bin/mpirun", home);
    return access(program, X_OK) == 0;
}

void carried_mpi_enter(void)
{
    char own[PATH_CAPACITY], home[PATH_CAPACITY], value[PATH_CAPACITY + 16];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    own[length > 0 ? length : 0] = '\0';
    if (!carried_mpi_find(home, own))
        return;
    for (int i = 0; i < CARRIED_MPI_SETTINGS; i++) {
        (void)snprintf(value, sizeof value, "%s%s", home, carried_mpi_settings[i].below);
        setenv(carried_mpi_settings[i].name, value, 1);
    }
}
