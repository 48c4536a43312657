// Ranks that fail in the middle of a run, for fault.sh: `fault KIND FOLDER`. At step 2 the highest
// rank stops itself (stop), is killed (kill), aborts (abort), leaves (leave) or sends too much
// (truncate); the others sit in an all-reduce then.

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "comm/comm.h"
#include "comm/watchdog.h"

enum { STEPS = 4, FAULTY_STEP = 2, COUNT = 250000 };
static const double TIMEOUT_S = 5.0;

// Rank 0 expects one byte of each and gets eight of the last.
static void send_too_much(struct comm *c)
{
    char mine[8] = {0}, all[64];
    size_t counts[64], offsets[64];
    for (int r = 0; r < comm_size(c); r++) {
        counts[r] = 1;
        offsets[r] = (size_t)r;
    }
    const bool last = comm_rank(c) == comm_size(c) - 1;
    comm_gatherv(c, mine, last ? sizeof mine : 1, all, counts, offsets, 0);
}

// An empty file in the folder, whose time is that of the failure.
static void note(const char *folder)
{
    char path[PATH_CAPACITY];
    CHECK(path_join(path, folder, "failing") == RETORT_OK);
    CHECK(file_write_whole(path, "", 0) == RETORT_OK);
}

static void fail_by(const char *kind, const char *folder, struct comm *c)
{
    const bool last = comm_rank(c) == comm_size(c) - 1;
    if (last)
        note(folder);
    if (strcmp(kind, "truncate") == 0)
        send_too_much(c);
    if (!last)
        return;
    if (strcmp(kind, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(kind, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(kind, "abort") == 0)
        comm_abort(c, FAIL(RETORT_NUMERIC, "the loss is not finite"));
    if (strcmp(kind, "leave") == 0)
        exit(FAIL(RETORT_INPUT, "data.h5: a block is damaged"));
}

int main(int argc, char **argv)
{
    struct comm *c = NULL;
    struct watchdog *w = NULL;
    CHECK(argc == 3);
    CHECK(comm_mpi_create(&c) == RETORT_OK);
    CHECK(watchdog_create(&w, argv[2], comm_rank(c), comm_size(c), comm_host(c), TIMEOUT_S) == 0);
    comm_attach_watchdog(c, w);
    float *data = calloc(COUNT, sizeof *data);
    CHECK(data);
    watchdog_phase(w, "student");
    for (int step = 0; step < STEPS; step++) {
        watchdog_step(w, step);
        if (step == FAULTY_STEP)
            fail_by(argv[1], argv[2], c);
        comm_allreduce_sum(c, data, COUNT, REAL_F32, true);
    }
    free(data);
    comm_attach_watchdog(c, NULL);
    watchdog_destroy(&w, 0);
    comm_destroy(&c);
    return 0;
}
