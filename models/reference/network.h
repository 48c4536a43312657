#pragma once
// The reference engine's network: every node's output is kept, and no work is shared or fused.

#include "models/host/host.h"

struct reference_network {
    struct host_network host;
    double **values;     // owned; of each node: [max_batch, C, H, W]; the input's is borrowed
    double **gradients;  // owned; the same of d loss / d values; NULL unless training
    double **means;      // owned; of each BatchNorm: the last training forward's [C]
    double **variances;  // owned; biased
    double *samples;     // owned; of each BatchNorm: how many these are of
    double *own, *whole; // owned; [2, most channels]: dgamma and dbeta of a BatchNorm, of this
                         // micro-batch and of all that was normalised together
    const struct reference_network *weights; // borrowed; whose arena: itself, or a group's first
    const double *arena;                     // borrowed; weights and running statistics
    size_t memory_bytes;
};

static inline const double *reference_weight(const struct reference_network *r, int param)
{
    return param >= 0 ? r->weights->arena + r->host.graph->params[param].offset : NULL;
}
static inline double *reference_gradient(const struct reference_network *r, double *gradients,
                                         int param)
{
    return param >= 0 ? gradients + r->host.graph->params[param].offset : NULL;
}

// ---- network.c
int reference_network_create(struct network **out, struct engine *e, const struct graph *g,
                             const struct network_options *options, struct network *weights_of);
void reference_network_destroy(struct network *base);

// ---- norm.c; `index` is a BatchNorm node's
// As struct host_layers' calls, for a node that is synchronised or not.
size_t reference_norm_sums(struct reference_network *r, int index, enum host_pass pass, int stop,
                           double *sums);
void reference_norm_totals(struct reference_network *r, int index, enum host_pass pass, int stop,
                           const double *totals);
void reference_norm_forward(struct reference_network *r, int index);
void reference_norm_backward(struct reference_network *r, int index, double *dgamma, double *dbeta);
// Statistics travel with the gradients: share × (mean | unbiased variance) of all BatchNorms.
void reference_norm_report(const struct reference_network *r, double share, double *gradients);
