#pragma once
// What a rank is doing, in a small file of its own, and a thread that ends a hanging run.
//
// ranks/<r>.state is a fixed-size text file, mapped and rewritten in place (no system call a
// collective): rank, host, pid, stage, step, the last 8 collectives (number, step, bytes, when it
// was entered and left, name).
// When a collective lasts longer than `timeout_s`, the thread prints one line naming the
// collective, the step and the ranks that have not arrived (from their files), and ends the process
// with RETORT_RANK; mpirun or srun then ends the others.
//
// A rank whose file is taken away by another start of the run is an orphan on a host that was held
// for dead: it has lost its peers, and ends with RETORT_BUSY before it writes anything.

#include <stddef.h>
#include <stdint.h>

struct watchdog; // opaque

// `folder` holds the state files (created). A `timeout_s` of 0: never ends the run. Not collective.
int watchdog_create(struct watchdog **out, const char *folder, int rank, int size, const char *host,
                    double timeout_s);
// Marks the rank as having left (`code` in the file), stops the thread. Takes NULL.
void watchdog_destroy(struct watchdog **p, int code);
// 0 for NULL: nobody but the caller ends a run that hangs.
double watchdog_timeout_s(const struct watchdog *w);
// Named phases ("teacher", "logits view 3") and the step: what the rank did last. Cheap. A NULL
// watchdog is accepted by all five. A new phase has no step yet.
void watchdog_phase(struct watchdog *w, const char *phase);
void watchdog_step(struct watchdog *w, int64_t step);
// A collective: numbered, so that whoever has entered fewer is behind.
void watchdog_enter(struct watchdog *w, const char *collective, size_t bytes);
// A wait that not every rank goes through (the end of an exchange): not numbered, timed the same.
void watchdog_wait(struct watchdog *w, const char *what, size_t bytes);
void watchdog_leave(struct watchdog *w);

// One line of what a rank did last, from its file, for a launcher that saw it die:
// "rank 1 on node7 (pid 123): student step 412, in all-reduce of 7.5 MB for 2.1 s".
// Returns RETORT_INPUT, and prints nothing, when there is no such file (`out` says so too).
int watchdog_describe(const char *folder, int rank, char *out, size_t out_bytes);
// What it went through before that, the last first: "agreement of 4 B, exchange start of 1.2 MB";
// "" when that is not known.
void watchdog_history(const char *folder, int rank, char *out, size_t out_bytes);
