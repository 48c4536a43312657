// Work that repeats: captured as a CUDA graph and replayed.
//
// The first run is plain, so that libraries load what they need; the second is captured. Where a
// capture fails (not every engine of cuDNN allows one), that work is called from then on, on all
// ranks that do it together: they are asked before the first replay. A step that is captured whole
// has its forwards and backwards in it; one that is not has them as pieces.

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "models/cuda/cuda.h"

static void replay_free(struct replay *r)
{
    if (r->graph != NULL)
        (void)cudaGraphExecDestroy(r->graph);
    *r = (struct replay){0};
}

void cuda_replays_free(struct replays *r)
{
    for (int i = 0; i < REPLAYS; i++)
        replay_free(&r->all[i]);
}

// The entry of this key; a new one takes the oldest's place.
static struct replay *find(struct replays *replays, const struct record_key *key)
{
    for (int i = 0; i < REPLAYS; i++) {
        struct replay *r = &replays->all[i];
        if (r->runs > 0 && memcmp(&r->key, key, sizeof(*key)) == 0)
            return r;
    }
    struct replay *r = &replays->all[replays->next++ % REPLAYS];
    replay_free(r);
    r->key = *key;
    return r;
}

// *out is NULL when it cannot be done, which has been said.
static int capture(struct cuda_engine *e, const char *what, cudaGraphExec_t *out,
                   const struct record_work *work)
{
    cudaGraph_t graph = NULL;
    int rc = RETORT_OK;
    *out = NULL;
    TRY_CUDA(cudaStreamBeginCapture(e->stream, cudaStreamCaptureModeThreadLocal));
    int worked = work->queue(work->context);
    cudaError_t status = cudaStreamEndCapture(e->stream, &graph);
    if (worked == RETORT_OK && status == cudaSuccess)
        status = cudaGraphInstantiate(out, graph, 0);
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    if (worked != RETORT_OK || status != cudaSuccess) {
        log_info("%s is not captured as a CUDA graph: %s", what, cudaGetErrorString(status));
        (void)cudaGetLastError(); // it has been seen
        *out = NULL;
    }
fail:
    return rc;
}

// The same, on all ranks or none.
static int capture_everywhere(struct cuda_engine *e, const char *what, cudaGraphExec_t *out,
                              const struct record_work *work)
{
    int rc = RETORT_OK;
    TRY(capture(e, what, out, work));
    if (work->everywhere == NULL || work->everywhere(work->context, *out != NULL) || *out == NULL)
        return rc;
    log_info("%s is not captured as a CUDA graph: another rank could not", what);
    (void)cudaGraphExecDestroy(*out);
    *out = NULL;
fail:
    return rc;
}

// The work's own pieces are part of it.
static int run(struct cuda_engine *e, struct replays *replays, struct replay *r,
               const struct record_work *work)
{
    int rc = RETORT_OK;
    if (r->runs++ == 0)
        return work->queue(work->context);
    if (r->graph == NULL)
        TRY(capture_everywhere(e, replays->what, &r->graph, work));
    replays->refused = r->graph == NULL;
    if (r->graph != NULL)
        TRY_CUDA(cudaGraphLaunch(r->graph, e->stream));
fail:
    return rc;
}

int cuda_replay(struct cuda_engine *e, struct replays *replays, const struct record_key *key,
                const struct record_work *work)
{
    int rc = RETORT_OK;
    if (e->eager || e->recording || replays->refused)
        return work->queue(work->context);
    struct replay *r = find(replays, key);
    if (replays->few && replays->next > REPLAYS) {
        replays->refused = true;
        return work->queue(work->context);
    }
    e->recording = true;
    rc = run(e, replays, r, work);
    e->recording = false;
    return rc == RETORT_OK && replays->refused ? work->queue(work->context) : rc;
}

// ---- for whole steps

struct cuda_recorded {
    struct recorded base;
    struct replays replays;
};

int cuda_record(struct engine *e, struct recorded **out, const struct record_key *key,
                const struct record_work *work)
{
    struct cuda_recorded *r = (struct cuda_recorded *)*out;
    if (r == NULL) {
        r = calloc(1, sizeof(*r));
        if (r == NULL)
            return FAIL(RETORT_MEMORY, "no memory for a CUDA graph");
        r->base.ops = e->ops;
        r->replays.what = "a step";
        r->replays.few = true; // its pieces have fewer
        *out = &r->base;
    }
    return cuda_replay(cuda_engine_of(e), &r->replays, key, work);
}

void cuda_recorded_destroy(struct recorded *base)
{
    struct cuda_recorded *r = (struct cuda_recorded *)base;
    cuda_replays_free(&r->replays);
    free(r);
}
