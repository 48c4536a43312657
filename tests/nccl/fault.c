// Ranks whose GPUs fail in the middle of a run, for tests/comm/fault.sh: `fault KIND FOLDER`. At
// step 2 the highest rank's GPU hangs (hang), fails (fail) or is late (slow, late: by less and more
// than the limit), its call is refused (refuse), or it stops itself (stop); its start may be
// refused or hang (start_refuse, start_hang). In "alone_…" the watchdog has no limit; in "beside_…"
// sums run beside the stream.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "comm/watchdog.h"
#include "tests/nccl/gpu.h"

enum { STEPS = 4, FAULTY_STEP = 2, COUNT = 2500 };
static const double TIMEOUT_S = 3.0,
                    PATIENCE_S = 30.0; // of who is to run out of time, and of others

#ifdef RETORT_SOFTGPU
#include "tests/softgpu/softgpu.h"

static void fail_by(const char *kind)
{
    if (strcmp(kind, "hang") == 0)
        softgpu_nccl_misbehave(SOFTGPU_HANGS, 1, 0);
    if (strcmp(kind, "fail") == 0)
        softgpu_nccl_misbehave(SOFTGPU_FAILS, 1, 0);
    if (strcmp(kind, "slow") == 0)
        softgpu_nccl_misbehave(SOFTGPU_SLOW, 1, 1000);
    if (strcmp(kind, "late") == 0)
        softgpu_nccl_misbehave(SOFTGPU_SLOW, 1, 20000);
    if (strcmp(kind, "refuse") == 0)
        softgpu_inject("ncclSend", 1, 3);
    if (strcmp(kind, "start_refuse") == 0)
        softgpu_inject("ncclCommInitRankConfig", 1, 2);
    if (strcmp(kind, "start_hang") == 0)
        softgpu_inject("ncclCommInitRankConfig", 1, 7); // "in progress", but nothing progresses
    if (strcmp(kind, "stop") == 0)
        raise(SIGSTOP);
}
#else
static void fail_by(const char *kind)
{
    if (strcmp(kind, "stop") == 0)
        raise(SIGSTOP);
}
#endif

// An empty file in the folder, whose time is that of the failure; then the failure.
static void note_and_fail(const char *kind, const char *folder)
{
    char path[PATH_CAPACITY];
    CHECK(path_join(path, folder, "failing") == RETORT_OK);
    CHECK(file_write_whole(path, "", 0) == RETORT_OK);
    fail_by(kind);
}

static void sum(struct comm *c, void *data, bool beside)
{
    if (!beside) {
        comm_allreduce_sum(c, data, COUNT, REAL_F32, true);
        return;
    }
    comm_allreduce_beside(c, data, COUNT, REAL_F32, true);
    comm_join(c);
}

static void run_steps(struct gpu_rank *r, struct watchdog *w, const char *kind, bool beside,
                      const char *folder)
{
    const bool last = comm_rank(r->comm) == comm_size(r->comm) - 1;
    float *host = calloc(COUNT, sizeof *host);
    void *data = test_memory_gpu.create(COUNT * sizeof *host);
    CHECK(host);
    for (int step = 0; step < STEPS; step++) {
        watchdog_step(w, step);
        for (int i = 0; i < COUNT; i++)
            host[i] = (float)(comm_rank(r->comm) + step);
        test_memory_gpu.put(data, host, COUNT * sizeof *host);
        if (step == FAULTY_STEP && last)
            note_and_fail(kind, folder);
        sum(r->comm, data, beside);
        comm_wait(r->comm);
        test_memory_gpu.get(host, data, COUNT * sizeof *host);
        const int size = comm_size(r->comm);
        const int expected = size * (size - 1) / 2 + size * step;
        CHECK(host[COUNT - 1] == (float)expected);
    }
    test_memory_gpu.destroy(data);
    free(host);
}

static double watchdog_limit(const char *kind, bool alone)
{
    if (alone)
        return 0.0;
    return strcmp(kind, "hang") == 0 || strcmp(kind, "stop") == 0 ? TIMEOUT_S : PATIENCE_S;
}

// Whether *kind begins so; then what follows is left of it.
static bool take_prefix(const char **kind, const char *prefix)
{
    const bool has = strncmp(*kind, prefix, strlen(prefix)) == 0;
    *kind += has ? strlen(prefix) : 0;
    return has;
}

int main(int argc, char **argv)
{
    struct gpu_rank r;
    struct watchdog *w = NULL;
    CHECK(argc == 3);
    const char *kind = argv[1];
    const bool alone = take_prefix(&kind, "alone_"), beside = take_prefix(&kind, "beside_");
    if (!gpu_rank_open(&r))
        return 77; // no GPU: skipped
    const int rank = comm_rank(r.comm), size = comm_size(r.comm);
    CHECK(watchdog_create(&w, argv[2], rank, size, comm_host(r.comm),
                          watchdog_limit(kind, alone)) == RETORT_OK);
    const bool at_start = strncmp(kind, "start_", strlen("start_")) == 0;
    if (at_start)
        comm_attach_watchdog(r.comm, w);
    if (at_start && rank == size - 1)
        note_and_fail(kind, argv[2]);
    gpu_rank_connect(&r, 0, alone ? TIMEOUT_S : PATIENCE_S);
    comm_attach_device(r.comm, r.device);
    if (!at_start) { // ranks start when the machine lets them: nobody's limit counts that
        comm_barrier(r.comm);
        comm_attach_watchdog(r.comm, w);
    }
    watchdog_phase(w, "student");
    run_steps(&r, w, kind, beside, argv[2]);
    if (rank == 0)
        printf("all steps done\n");
    comm_attach_watchdog(r.comm, NULL);
    watchdog_destroy(&w, 0);
    gpu_rank_close(&r);
    return 0;
}
