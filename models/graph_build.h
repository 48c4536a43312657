#pragma once
// Builds a graph node by node: each call adds a node that reads the last one.
//
//     TRY(graph_begin(&g, "name", 3, 64, 64));
//     TRY(graph_add_conv(g, "conv1", 12, 3, 1, false)); …
//     TRY(graph_finish(g));
//
// Names and ranges of parameters follow from the nodes. RETORT_USAGE when the picture is too small,
// RETORT_MEMORY when memory is short; the caller destroys the graph then.

#include "models/graph.h"

int graph_begin(struct graph **out, const char *arch, int channels, int height, int width);
// Padding kernel / 2: stride 1 keeps the picture's size when the kernel is odd.
int graph_add_conv(struct graph *g, const char *name, int channels, int kernel, int stride,
                   bool has_bias);
// `synced`: statistics of the whole batch, not of a micro-batch.
int graph_add_batchnorm(struct graph *g, const char *name, bool synced);
// ACTIVATION_NONE adds no node.
int graph_add_activation(struct graph *g, const char *name, int64_t activation);
// Windows that would reach over the edge are left out.
int graph_add_avgpool(struct graph *g, const char *name, int kernel);
int graph_add_linear(struct graph *g, const char *name, int channels);
// Lays out the arena; the last node's channels are the classes.
int graph_finish(struct graph *g);
