#pragma once
// Ranks that an earlier start left behind: its launcher and mpirun were killed, and for some
// seconds they go on writing into the folder.

// Ends those of this host and waits until they are gone; one line says so. Call as the folder's
// owner, before ranks/*.state are removed. Ranks of other hosts end with their node's daemon.
void left_ranks_end(const char *folder);
