#pragma once
// Open MPI where it is carried along (the target `bundle`): in the folder openmpi beside that of
// retort-worker. It looks for its parts where it was configured to be, unless the environment names
// another place; and takes no settings of this machine's, which are for another Open MPI.

#include <stdbool.h>

#include "base/file.h"

// The folder of the Open MPI that `worker`, a program's path, is to be started by; false when none
// is carried beside it.
bool carried_mpi_find(char home[PATH_CAPACITY], const char *worker);

// What the environment of such an Open MPI's programs must hold: NAME, and its value's end after
// `home`.
struct carried_mpi_setting {
    const char *name, *below;
};
enum { CARRIED_MPI_SETTINGS = 6 };
extern const struct carried_mpi_setting carried_mpi_settings[CARRIED_MPI_SETTINGS];

// In a rank, before MPI starts: sets these when one is carried beside this program. A rank's parent
// may be a daemon on another host, or Slurm's, which knows nothing of them.
void carried_mpi_enter(void);
