#include "models/cuda/kernels/loss.h"

#include "models/cuda/network.h"

int cuda_network_loss(struct network *base, const struct loss_targets *targets,
                      const struct loss_spec *spec, const struct step_scalars *scalars,
                      double *sums)
{
    struct cuda_network *n = cuda_network_of(base);
    bool training = n->mode == FORWARD_TRAIN;
    bool distilled = spec->kind == DISTILL_KD && targets->teacher != NULL;
    int rc = RETORT_OK;
    CHECK(targets->count == n->count || (!training && targets->count < n->count));
    struct loss_job job = {
        .logits = n->logits,
        .labels = targets->labels,
        .teacher = distilled ? targets->teacher : NULL,
        .sample_id = n->sample_id,
        .count = targets->count,
        .classes = n->graph->classes,
        .weights = loss_weights_make(distilled, spec->reduction == REDUCTION_ELEMENTWISE,
                                     spec->temperature, spec->alpha, spec->label_smoothing,
                                     n->graph->classes),
        .scalars = scalars,
        .gradient = training ? n->logit_gradients : NULL,
        .rows = n->max_batch,
        .row_sums = n->row_sums,
        .sums = sums,
        .fault = &n->engine->faults->label,
    };
    TRY(base->ops->upload(&n->engine->base, n->sample_id, targets->sample_id,
                          (size_t)targets->count * sizeof(int64_t)));
    TRY_CUDA(loss_launch(&job, n->engine->type, n->engine->stream));
    n->has_loss = training;
fail:
    return rc;
}
