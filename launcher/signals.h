#pragma once
// The signals that a launcher listens to while a run is its own.

#include <signal.h>

// INT, TERM, HUP, USR1 and CHLD. What nohup or a script's background made us ignore stays ignored.
void signals_of_launcher(sigset_t *set);
