#pragma once
// Signals that end the process (INT, TERM, HUP) wait while something half-written is there: the
// writer looks now and then whether one waits, removes what it wrote, and lets it come.

#include <signal.h>
#include <stdbool.h>

// Threads started between the two inherit it. `before` keeps what is to be restored.
void interrupt_hold(sigset_t *before);
void interrupt_release(const sigset_t *before);
bool interrupt_waits(void);
