#include "models/cuda/kernels/loss.h"

#include "models/cuda/network.h"

// Device memory that the loss reads when it runs.
struct brought {
    const int64_t *sample_id;
    const uint16_t *const *teacher;
};

// Where it has been put before, or, when it has not, now.
static int bring(struct cuda_network *n, const struct loss_targets *targets, bool distilled,
                 struct brought *out)
{
    const struct engine_ops *ops = n->base.ops;
    int rc = RETORT_OK;
    if (targets->staged != NULL) {
        const struct cuda_staged *s = cuda_staged_of(targets->staged);
        CHECK(targets->count <= s->count &&
              (s->kept->teacher != NULL) == (targets->teacher != NULL));
        *out = (struct brought){s->sample_id, &s->source->teacher};
        return rc;
    }
    *out = (struct brought){n->sample_id, n->teacher};
    TRY(ops->upload(&n->engine->base, n->sample_id, targets->sample_id,
                    (size_t)targets->count * sizeof(int64_t)));
    if (distilled)
        TRY(ops->upload(&n->engine->base, n->teacher, &targets->teacher, sizeof(targets->teacher)));
fail:
    return rc;
}

int cuda_network_loss(struct network *base, const struct loss_targets *targets,
                      const struct loss_spec *spec, const struct step_scalars *scalars,
                      double *sums)
{
    struct cuda_network *n = cuda_network_of(base);
    bool training = n->mode == FORWARD_TRAIN;
    bool distilled = spec->kind == DISTILL_KD && targets->teacher != NULL;
    struct brought at;
    int rc = RETORT_OK;
    TRY(bring(n, targets, distilled, &at));
    CHECK(targets->count == n->count || (!training && targets->count < n->count));
    struct loss_job job = {
        .logits = n->logits,
        .labels = targets->labels,
        .teacher = distilled ? at.teacher : NULL,
        .sample_id = at.sample_id,
        .count = targets->count,
        .classes = n->graph->classes,
        .weights = loss_weights_make(distilled, spec->reduction == REDUCTION_ELEMENTWISE,
                                     spec->temperature, spec->alpha, spec->label_smoothing,
                                     n->graph->classes),
        .scalars = scalars,
        .scale = spec->scale,
        .gradient = training ? n->logit_gradients : NULL,
        .rows = n->max_batch,
        .row_sums = n->row_sums,
        .sums = sums,
        .fault = &n->engine->faults->label,
    };
    TRY_CUDA(loss_launch(&job, n->engine->type, n->engine->stream));
    n->has_loss = training;
fail:
    return rc;
}
