#pragma once
// Pictures into the engine's layout: cropped, mirrored, normalised.
//
// A thread a pixel: 3 bytes in, 8 channels out (the last five are zeros). Decisions and coordinates
// are base/arith/augment.h's, values the table's, so that pictures are the CPU's bit for bit (bf16:
// rounded from them).

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "models/cuda/kernels/element.h"
#include "models/cuda/kernels/source.h"

#ifdef __cplusplus
extern "C" {
#endif

struct augment_job {
    const struct sample_source *source; // read when the work runs, as are slots and sample ids
    const int64_t *slot;                // [count]
    const int64_t *sample_id;           // [count]
    const float *table;                 // [3, 256]
    void *values;                       // [rows, height, width, 8]; zeros behind `count`
    uint8_t *augmented; // [count, height, width, 3]: the bytes before the table; or NULL
    int count, rows, height, width;
};
cudaError_t augment_launch(const struct augment_job *job, enum element_type type,
                           cudaStream_t stream);

// The same layout from values as they are: from[count, 3, height, width].
cudaError_t pictures_launch(void *values, const float *from, int count, int rows, int height,
                            int width, enum element_type type, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
