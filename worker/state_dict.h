#pragma once
// A network's weights as PyTorch's state_dict() holds them, for a plain nn.Module whose layers are
// called as the graph's nodes (docs/pytorch.md shows it): the arena's parameters by their own names
// and shapes, and of each BatchNorm a number more, num_batches_tracked, which nothing is computed
// from: here it is the step of the checkpoint.

#include "base/real.h"
#include "data/safetensors.h"
#include "models/graph.h"

struct state_dict {
    struct safetensor *tensors; // owned: the counters, then the parameters in the graph's order
    size_t count, counter_count;
    char (*counter_names)[48]; // owned
};

// Names, types and shapes of what the graph has; no values yet.
int state_dict_create(struct state_dict *out, const struct graph *g, enum real_type real);
void state_dict_free(struct state_dict *d);

// Points the tensors at an arena [g->total] of the type and at a number; both are borrowed.
void state_dict_point(struct state_dict *d, const struct graph *g, enum real_type real,
                      const void *arena, const int64_t *step);
// Whether a file has exactly these tensors. RETORT_INPUT names `path` and the tensor that is
// missing, superfluous or misshapen; `what` describes the network in that message.
int state_dict_check(const struct state_dict *d, const struct safetensors *from, const char *path,
                     const char *what);
// Fills the arena [g->total] and *step from a file that was checked. RETORT_INPUT where a value
// makes no sense.
int state_dict_take(const struct state_dict *d, const struct graph *g, enum real_type real,
                    const struct safetensors *from, const char *path, void *arena, int64_t *step);
