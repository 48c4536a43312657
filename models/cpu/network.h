#pragma once
// A network on the oneDNN engine: a chain of layers over buffers planned once.
//
// Nodes of the graph become layers; a ReLU joins the layer before it. Activations between
// convolutions are blocked by channels and padded to whole blocks with zeros, in memory only:
// padded weights are zero, so are their gradients, and files never see them. Operations of oneDNN
// are made for each batch size when it first turns up and kept; all sizes share the buffers. The
// networks of a group share what belongs to weights, and all workspaces: it is their first's.

#include "models/cpu/dnn_api.h"
#include "models/cpu/own.h"
#include "models/host/host.h"

struct cpu_engine {
    struct host_engine host;
    struct dnn dnn; // owned
};

struct shape {    // of one sample
    int channels; // as in the graph
    int padded;   // in memory: whole blocks when blocked, else = channels
    int height, width;
    bool blocked; // [padded / block, height, width, block], else [channels, height, width]
    bool narrow;  // bf16, else f32
};
struct cpu_network;
size_t shape_elements(const struct shape *s); // in memory, a sample
// Channels of a plane [height, width, lanes]: a block, or one.
int shape_lanes(const struct cpu_network *n, const struct shape *s);
// Whether gradients of such an activation are bf16.
bool gradient_is_narrow(const struct cpu_network *n, const struct shape *s);

// A layer's operations for one batch size; which is which is the layer's (CONV_…, NORM_…).
enum { LAYER_OPS = 4 };
struct kernels {
    struct dnn_op op[LAYER_OPS];
};

// Weights in the format of one operation, kept up to date by network_set_weights.
struct packed {
    struct dnn_op pack; // owned
    void *data;         // owned by the network
};

// The first two are oneDNN's.
enum conv_algorithm { CONV_DIRECT, CONV_WINO, CONV_OWN, CONV_ALGORITHMS };
enum { CONV_PACKS = 6 };
struct conv_state {
    enum conv_algorithm algorithm[DNN_DIRECTIONS];
    struct packed packs[CONV_PACKS];
    int pack_count;
    struct own_conv own;
    float *bias, *bias_gradient; // [padded]; NULL without bias
};

struct norm_state {
    // [padded] each; those of this line are shared
    float *scale, *shift, *running_mean, *running_variance;
    float *mean, *variance; // of the last micro-batch, or the whole batch
    double values;          // numbers of a channel these are of
    float *scale_gradient, *shift_gradient;
    float *factor, *base, *slope; // as norm_kernels.h has them
};

struct layer;
// What a synchronised layer asks of the whole batch before one pass: sums, once.
struct layer_sync {
    // Fills sums[]; returns how many.
    size_t (*sums)(struct cpu_network *n, struct layer *l, double *sums);
    void (*totals)(struct cpu_network *n, struct layer *l, const double *totals);
};
// Every member may be NULL: nothing to do.
struct layer_ops {
    // Allocates what the layer owns beside activations (not per batch size).
    int (*open)(struct cpu_network *n, struct layer *l);
    // Makes the operations for `count` samples.
    int (*build)(struct cpu_network *n, struct layer *l, struct kernels *k, int count);
    int (*set_weights)(struct cpu_network *n, struct layer *l);
    int (*forward)(struct cpu_network *n, struct layer *l, struct kernels *k);
    // Reads dy, fills dx unless it is NULL, and the layer's ranges of `gradients`.
    int (*backward)(struct cpu_network *n, struct layer *l, struct kernels *k, float *gradients);
    // Fills the layer's range of the statistics: share × (mean | unbiased variance).
    void (*report_statistics)(struct cpu_network *n, struct layer *l, double share,
                              float *gradients);
    void (*close)(struct layer *l);
    // NULL: it needs nothing of other micro-batches.
    const struct layer_sync *sync[2]; // by enum host_pass
    bool in_place;                    // dx may be dy
    bool in_place_forward;            // y may be x, in training too
    bool in_place_evaluate;           // y may be x when nothing is kept for backward
};
extern const struct layer_ops CONV_LAYER, NORM_LAYER, SYNCED_NORM_LAYER, LINEAR_LAYER, RELU_LAYER,
    POOL_LAYER, LAYOUT_LAYER;

struct layer {
    const struct layer_ops *ops;
    const struct node *node; // borrowed
    bool relu;               // fused
    // BatchNorm folded into a convolution's weights and bias, in networks that only evaluate; or
    // NULL.
    const struct node *folded;
    struct shape in, out;
    // Borrowed from the network's buffers, [max_batch] samples each. x of the first layer is NULL:
    // it reads the pictures. Their dx is NULL: nobody asks for it.
    void *x, *y, *dx, *dy;
    struct conv_state *conv; // the first network's
    struct norm_state norm;
};

struct batch_size {
    int count;
    struct kernels *kernels; // owned, [layer_count]
};

struct cpu_network {
    struct host_network host;
    struct cpu_engine *engine; // borrowed
    struct cpu_network *first; // of the group, or this one: has the weights and workspaces
    struct layer *layers;      // owned
    int layer_count;
    struct batch_size *sizes; // owned
    int size_count;
    struct kernels *kernels; // borrowed, [layer_count]: of the forward under way
    void **blocks;           // owned memory, freed together
    int block_count;
    size_t memory_bytes;
    const float *pictures; // borrowed: of the forward under way, [count, C, H, W]
    // Of the first network only, from here on.
    const float *arena; // borrowed: the last network_set_weights
    bool timing;        // algorithms are being chosen
    // Shared by all operations, grown when one is made that needs more.
    struct scratch {
        void *data; // owned
        size_t bytes;
    } scratchpad, staging, plain; // oneDNN's; weight gradients in its format; padded plain weights
};
static inline struct cpu_network *cpu_network_of(const struct network *n)
{
    return (struct cpu_network *)(uintptr_t)n;
}

// ---- network.c
int cpu_network_create(struct network **out, struct engine *e, const struct graph *g,
                       const struct network_options *options, struct network *weights_of);
void cpu_network_destroy(struct network *n);
size_t cpu_network_memory(const struct network *n);
int cpu_network_set_weights(struct network *n, const void *arena);
// Zero-filled floats that live as long as the network.
int cpu_network_alloc(struct cpu_network *n, size_t bytes, void *out);
// `s` is one of n->first's.
void cpu_scratch_free(struct cpu_network *n, struct scratch *s);
int cpu_scratch_reserve(struct cpu_network *n, struct scratch *s, size_t bytes);
// Makes room for the operation's scratchpad; call once it is made.
int cpu_op_adopt(struct cpu_network *n, const struct dnn_op *op);
int cpu_op_run(struct cpu_network *n, struct dnn_op *op);
const struct param *cpu_param(const struct cpu_network *n, int index);
// Where the arena's parameter `index` begins.
const float *cpu_weights(const struct cpu_network *n, int index);

// ---- layer.c
// The layers of the graph; RETORT_USAGE for what this engine cannot do.
int cpu_layers_create(struct cpu_network *n);
// Buffers of activations and their gradients.
int cpu_layers_plan_memory(struct cpu_network *n);

// ---- plan.c: "conv2 fwd=wino bwd_data=wino bwd_weights=direct;…", after "bf16;" where narrow
// Fills every convolution's algorithms from the text, or by timing when it is NULL.
int cpu_plan_apply(struct cpu_network *n, const char *text);
int cpu_network_plan(const struct network *n, char **out);

// ---- conv.c
// What one direction needs by one algorithm, in `op` if it is oneDNN's. *available = false, with no
// message, where there is no such algorithm for the layer.
int conv_prepare(struct cpu_network *n, struct layer *l, struct dnn_op *op, int count,
                 enum dnn_direction direction, enum conv_algorithm algorithm, bool *available);
// Runs it on the shared buffers; weight gradients stay in the staging buffer.
int conv_run(struct cpu_network *n, struct layer *l, struct dnn_op *op, int count,
             enum dnn_direction direction, enum conv_algorithm algorithm);
bool conv_has_direction(const struct cpu_network *n, const struct layer *l,
                        enum dnn_direction direction);
const char *conv_algorithm_name(enum conv_algorithm algorithm);

// ---- norm.c
// In evaluation BatchNorm is y = *factor x + *shift of a channel.
void norm_fold(const struct cpu_network *n, const struct node *norm, int channel, double *factor,
               double *shift);
