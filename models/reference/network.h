#pragma once
// The reference engine's network: every node's output is kept, and no work is shared or fused.

#include "models/host/host.h"

struct reference_network {
    struct host_network host;
    double **values;     // owned; of each node: [max_batch, C, H, W]; the input's is borrowed
    double **gradients;  // owned; the same of d loss / d values; NULL unless training
    double **means;      // owned; of each BatchNorm: the last training forward's [C]
    double **variances;  // owned; biased
    const double *arena; // borrowed; weights and running statistics
    size_t memory_bytes;
};

int reference_network_create(struct network **out, struct engine *e, const struct graph *g,
                             const struct network_options *options);
void reference_network_destroy(struct network *base);
int reference_network_forward(struct network *base, const struct input *in, enum forward_mode mode);
int reference_network_backward(struct network *base, void *gradients,
                               const struct step_scalars *scalars,
                               const struct ready_callback *on_ready);
