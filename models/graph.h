#pragma once
// The layer graph: what a network computes, before any engine.
//
// Nodes in topological order; a node reads the outputs of earlier nodes. Every parameter and every
// running statistic has a range of one contiguous arena, in layer order: first all parameters, then
// all running statistics (the means and variances of each BatchNorm). Files, gradients, momenta,
// EMA and all-reduces use this one layout, whatever layout an engine packs weights into for itself.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/recipe.h"

enum node_kind {
    NODE_INPUT,      // [N, C, H, W]
    NODE_CONV,       // weight [out, in, kh, kw], bias [out] when has_bias
    NODE_BATCHNORM,  // gamma [C], beta [C]; statistics mean [C], variance [C]
    NODE_ACTIVATION, // element by element
    NODE_AVGPOOL,    // kernel × kernel windows, stride = kernel
    NODE_LINEAR,     // weight [out, in], bias [out]; input flattened in (C, H, W) order
};

enum param_role { PARAM_WEIGHT, PARAM_BIAS, PARAM_GAMMA, PARAM_BETA, STAT_MEAN, STAT_VARIANCE };

struct node {
    enum node_kind kind;
    char name[24];               // "conv3", "norm3", "fc1": part of parameter names
    int input;                   // index of the node read; -1 for NODE_INPUT
    int channels, height, width; // of the output; a linear layer's is [channels, 1, 1]
    int kernel, stride, padding; // conv and pool
    bool has_bias;
    int activation;     // enum activation_kind, NODE_ACTIVATION only
    bool synced;        // BatchNorm: statistics of the whole batch, not of a micro-batch
    int weight, bias;   // indices of params: conv, linear; gamma, beta for BatchNorm; else -1
    int mean, variance; // indices of params: BatchNorm's running statistics; else -1
};

struct param {
    char name[40]; // "conv1.weight", "norm1.running_mean", …
    enum param_role role;
    int node;
    size_t offset, count; // in elements, of the arena
    int dims[4], rank;    // canonical shape
    bool decay;           // weight decay applies: conv and linear weights
    int fan_in, fan_out;  // weights
};

struct graph {
    char arch[RECIPE_WORD];
    struct node *nodes; // owned
    int node_count;
    struct param *params; // owned; statistics last
    int param_count;
    size_t trainable; // elements of the arena that are parameters: [0, trainable)
    size_t total;     // … and running statistics: [trainable, total)
    int classes;
};

struct graph_options {
    int channels, height, width, classes; // the input picture, the outputs
    int64_t norm, activation;             // enum norm_kind, enum activation_kind
};

// Builds `arch`: "conv12", "conv4", or a narrow variant for tests, "conv12/4" (channels divided by
// 4, FC by 4). RETORT_USAGE when it is unknown or the picture too small.
int graph_create(struct graph **out, const char *arch, const struct graph_options *options);
void graph_destroy(struct graph **p); // takes NULL
// The names graph_create takes, comma separated.
const char *graph_archs(void);
// Multiply-adds × 2 of a forward pass of one sample.
double graph_flops(const struct graph *g);

// Fills arena[total] (f32): weights by `init` (Glorot & Bengio 2010: deviation
// sqrt(2 / (fan_in + fan_out)); He et al. 2015: sqrt(2 / fan_in); uniform within
// 1 / sqrt(fan_in), LeCun et al. 1998 and PyTorch's layers: deviation sqrt(1 / (3 fan_in))), biases
// 0, gamma 1, beta 0, mean 0, variance 1. Keyed by (seed, layer, index): the same on every rank.
void graph_init_weights(const struct graph *g, enum init_kind init, uint64_t seed, float *arena);
