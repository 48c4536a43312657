// Waiting for NCCL and for the stream: nothing here blocks in a library, so that a peer that fails
// or hangs is seen, and ends the run.

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/nccl/nccl_comm.h"
#include "comm/watchdog.h"

static const double LOOK_EVERY_S = 0.001; // for an asynchronous error
static const double OTHERS_SPEAK_S = 5.0; // the rank that failed ends us sooner
static const double TURN_S = 2.0;         // lower ranks speak first, and end the others
static const double SPIN_S = 0.002;       // a short wait is not made longer by sleeping, …
static const double PAUSE_SHARE = 0.02;   // … and a long one by no more than this
static const double LONGEST_PAUSE_S = 0.001;
enum { TURNS = 8 };

static void sleep_s(double seconds)
{
    const struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static void pause_after(double waited_s)
{
    const double pause_s = waited_s * PAUSE_SHARE;
    if (waited_s < SPIN_S)
        sched_yield();
    else
        sleep_s(pause_s < LONGEST_PAUSE_S ? pause_s : LONGEST_PAUSE_S);
}

// How much later than rank 0 this rank says what all of them see.
static double turn_s(const struct nccl_comm *n)
{
    const int rank = n->base.comm->rank;
    return TURN_S * (rank < TURNS ? rank : TURNS);
}

int cuda_failed(cudaError_t code, const char *call)
{
    return FAIL(RETORT_RANK, "%.*s failed: %s", (int)strcspn(call, "("), call,
                cudaGetErrorString(code));
}

int nccl_failed(const struct nccl_comm *n, ncclResult_t code, const char *call)
{
    const double until_s = clock_seconds() + OTHERS_SPEAK_S + turn_s(n);
    while (code == ncclRemoteError && clock_seconds() < until_s)
        sleep_s(OTHERS_SPEAK_S / 50.0);
    const char *detail = n->nccl ? ncclGetLastError(n->nccl) : "";
    return FAIL(RETORT_RANK, "%.*s failed: %s%s%s", (int)strcspn(call, "("), call,
                ncclGetErrorString(code), *detail ? ": " : "", detail);
}

// "all-reduce of 7.5 MB": what is likely to be waited for.
static void describe(const struct nccl_comm *n, char *out, size_t out_bytes)
{
    char bytes[32];
    format_bytes((double)n->base.last_bytes, bytes, sizeof bytes);
    snprintf(out, out_bytes, n->base.last_bytes > 0 ? "%s of %s" : "%s", n->base.last, bytes);
}

// Fails when the wait that began at `start_s` has lasted too long. A watchdog with a limit of its
// own does that better: it knows which ranks are missing.
static int look_at_clock(const struct nccl_comm *n, double start_s)
{
    const double limit_s = n->needs.timeout_s, waited_s = clock_seconds() - start_s;
    if (limit_s <= 0.0 || waited_s < limit_s + turn_s(n) ||
        watchdog_timeout_s(n->base.comm->watchdog) > 0.0)
        return RETORT_OK;
    char what[64];
    describe(n, what, sizeof what);
    return FAIL(RETORT_RANK, "%s has waited %.0f s for GPUs of other ranks, or for this one", what,
                waited_s);
}

// The communicator's state: an asynchronous error, or whether it is still at work on a call.
static int look_for_error(const struct nccl_comm *n, bool *busy)
{
    ncclResult_t state = ncclSuccess;
    *busy = false;
    if (!n->nccl)
        return RETORT_OK;
    TRY_NCCL(n, ncclCommGetAsyncError(n->nccl, &state));
    *busy = state == ncclInProgress;
    if (*busy || state == ncclSuccess)
        return RETORT_OK;
    char what[64], whose[80];
    describe(n, what, sizeof what);
    snprintf(whose, sizeof whose, "NCCL's %s", what);
    return nccl_failed(n, state, whose);
}

int nccl_settle(const struct nccl_comm *n)
{
    const double start_s = clock_seconds();
    int rc = RETORT_OK;
    for (bool busy = true; busy;) {
        TRY(look_for_error(n, &busy));
        if (!busy)
            break;
        TRY(look_at_clock(n, start_s));
        pause_after(clock_seconds() - start_s);
    }
fail:
    return rc;
}

int nccl_wait(struct device_comm *d)
{
    const struct nccl_comm *n = nccl_of(d);
    const double start_s = clock_seconds();
    double looked_s = start_s;
    int rc = RETORT_OK;
    bool busy;
    for (;;) {
        const cudaError_t state = cudaStreamQuery(d->stream);
        if (state == cudaSuccess)
            break;
        if (state != cudaErrorNotReady)
            return cuda_failed(state, "the GPU's work");
        (void)cudaGetLastError(); // else the next launch would report that this was not ready
        const double now_s = clock_seconds();
        if (now_s - looked_s >= LOOK_EVERY_S) {
            TRY(look_for_error(n, &busy));
            TRY(look_at_clock(n, start_s));
            looked_s = now_s;
        }
        pause_after(now_s - start_s);
    }
fail:
    return rc;
}
