#pragma once
// What a batch's samples are taken from, in device memory: kernels read it when they run, so that a
// captured step replays while it changes from step to step.

#include <stdint.h>

#include "base/arith/augment.h"

struct sample_source {
    const uint8_t *pixels;   // device, rows by slot: [height, width, 3]
    const uint16_t *teacher; // device, f16 [*, classes] by sample id; or NULL
    uint64_t seed;
    enum augment_kind augment;
    enum random_domain domain;
    uint32_t view;
};
