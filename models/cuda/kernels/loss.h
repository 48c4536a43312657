#pragma once
// Cross-entropy and distillation: losses, ranks and the logits' gradient, a warp a row.
//
// The arithmetic is base/arith/loss.h's, in double. A row's classes are summed by lanes, then
// across them in a fixed order; rows are added in a fixed order too.

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "base/arith/loss.h"
#include "models/cuda/kernels/element.h"
#include "models/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

// A label that the network has no class for; what comes first stays.
struct label_fault {
    unsigned long long sample; // 1 + sample id; 0: none
    int32_t label;
};

struct loss_job {
    const float *logits;   // [rows, classes]
    const int32_t *labels; // by sample id
    // Device memory that holds, when the work runs, the address of f16 [*, classes] by sample id;
    // NULL: no distillation.
    const uint16_t *const *teacher;
    const int64_t *sample_id; // [count]
    int count, classes;
    struct loss_weights weights;
    const struct step_scalars *scalars;
    const struct loss_scale *scale; // of the gradient; NULL: 1
    void *gradient;                 // [rows, padded classes], zeros behind `count`; NULL: none
    int rows;
    double *row_sums; // scratch [count, LOSS_SUMS]
    double *sums;     // [LOSS_SUMS], +=
    struct label_fault *fault;
};
cudaError_t loss_launch(const struct loss_job *job, enum element_type type, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
