#pragma once
// Processes as /proc shows them, and the ones a run leaves behind.

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { PROCESSES_MAX = 256 };

struct process_list {
    pid_t pids[PROCESSES_MAX];
    int count;
};

// When the process started, in the kernel's ticks since boot: with the pid, its identity. -1 when
// there is no such process, or only its zombie.
int64_t process_start_ticks(pid_t pid);

// From now on orphans among our descendants become our children, so that none is lost.
void process_adopt_orphans(void);
// The children of `parent` now.
void process_children(struct process_list *out, pid_t parent);
// Waits until no child is left but those of `spare`; after `grace_s` seconds kills what is there,
// and returns how many it killed.
int process_end_children(const struct process_list *spare, double grace_s);
