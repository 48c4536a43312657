#pragma once
// A network on the CUDA engine: a chain of layers over buffers made once.
//
// Nodes of the graph become layers; a ReLU joins the convolution, linear layer or BatchNorm before
// it, an average pool the BatchNorm. All work is laid out for max_batch samples: a smaller batch is
// padded with samples whose pictures, outputs before the last and gradients are zeros, so that one
// plan a layer does, sums may be taken over all samples in memory, and bits don't depend on what
// batches came before. The networks of a group share weights, plans and workspaces: they are their
// first's.

#include "models/cuda/cuda.h"
#include "models/cuda/dnn.h"
#include "models/cuda/kernels/norm.h"
#include "models/cuda/kernels/pack.h"
#include "models/cuda/kernels/pool.h"

struct cuda_shape { // of one sample
    int channels, height, width;
};
static inline size_t cuda_shape_elements(const struct cuda_shape *s) // in memory
{
    return (size_t)channels_padded(s->channels) * s->height * s->width;
}

// ---- what a layer multiplies by its weights

// With sums, in training: to the output with those that the BatchNorm behind wants for forward; to
// the input, masked by the ReLU before, with those that the BatchNorm before wants for backward.
// Either has a plan where that is faster than the BatchNorm's own pass.
enum direction {
    TO_OUTPUT,
    TO_INPUT,
    TO_WEIGHTS,
    TO_OUTPUT_WITH_SUMS,
    TO_INPUT_WITH_SUMS,
    DIRECTIONS
};
static inline bool cuda_has_sums(enum direction d)
{
    return d == TO_OUTPUT_WITH_SUMS || d == TO_INPUT_WITH_SUMS;
}
struct product {
    struct dnn_product shape[DIRECTIONS];
    struct dnn_offer offer[DIRECTIONS]; // what was chosen
    struct dnn_plan plan[DIRECTIONS];   // owned
    struct filter filter;
    enum element_type gradient_type; // of the weights' packed gradient
};

// ---- layers

enum cuda_pass { CUDA_FORWARD, CUDA_BACKWARD };
struct cuda_network;
struct cuda_layer;
struct cuda_layer_ops {
    int (*forward)(struct cuda_network *n, struct cuda_layer *l);
    // Reads dy, fills dx unless it is NULL (of the first layer), and the layer's ranges of
    // `gradients` (=).
    int (*backward)(struct cuda_network *n, struct cuda_layer *l, float *gradients);
    // dx may be dy; y may be x when nothing is kept for backward. Not with a pool.
    bool in_place;
};
extern const struct cuda_layer_ops CUDA_PRODUCT_LAYER, CUDA_NORM_LAYER, CUDA_RELU_LAYER,
    CUDA_POOL_LAYER;

struct cuda_layer {
    const struct cuda_layer_ops *ops;
    const struct node *node; // borrowed
    bool relu;               // fused
    int pool;                // the average pool's kernel, fused or a layer of its own; 0: none
    bool last;               // its output is the logits, f32
    struct cuda_shape in, out;
    // Of the network's buffers, [max_batch] samples each. x of the first layer is NULL: it reads
    // the pictures.
    void *x, *y, *dx, *dy;
    struct product *product;           // the first network's
    struct dnn_call calls[DIRECTIONS]; // owned
    struct norm_state norm;
};

struct cuda_network {
    struct network base;
    struct cuda_engine *engine; // borrowed
    struct cuda_network *first; // of the group, or this one
    const struct graph *graph;  // borrowed
    bool training, grouped;     // grouped: a group's forward is under way
    int max_batch, count;       // count: of the last forward
    enum forward_mode mode;     // of the last forward
    bool has_loss;
    struct cuda_layer *layers; // owned
    int layer_count;
    void **blocks; // owned device memory, freed together
    int block_count;
    size_t memory_bytes;
    const struct cuda_input *input; // borrowed: of the last forward
    float *logits;                  // [max_batch, classes]
    void *logit_gradients;          // [max_batch, padded classes]
    int64_t *sample_id;             // [max_batch]: of a loss whose targets were not put before
    const uint16_t **teacher;       // [1], device: as it has
    double *row_sums;               // [max_batch, LOSS_SUMS]
    float *partials;                // partial sums of any layer's columns (columns.h, norm.h), or
                                    // those that a product has left for the next layer in the pass
    float *gamma_beta;              // [2 most channels]: gradients that a group keeps meanwhile
    struct replays replays;         // owned: of forward and backward
    // Of the first network only, from here on.
    const float *arena;       // borrowed: the last network_set_weights
    struct product *products; // owned
    int product_count;
    void *packed;              // every product's weights
    struct filter *filters;    // device
    struct pack_piece *pieces; // device
    size_t piece_count;
    void *weight_gradient; // one product's, packed
    void *workspace;
    size_t workspace_bytes;
};
static inline struct cuda_network *cuda_network_of(const struct network *n)
{
    return (struct cuda_network *)(uintptr_t)n;
}

// ---- network.c
int cuda_network_create(struct network **out, struct engine *e, const struct graph *g,
                        const struct network_options *options, struct network *weights_of);
void cuda_network_destroy(struct network *n);
size_t cuda_network_memory(const struct network *n);
int cuda_network_set_weights(struct network *n, const void *arena);
void *cuda_network_logits(struct network *n);
int cuda_network_logits_f16(struct network *n, uint16_t *out);
// Zero-filled device memory that lives as long as the network.
int cuda_network_alloc(struct cuda_network *n, size_t bytes, void *out);
// Where the arena's parameter `index` begins; NULL: there is none.
const float *cuda_weights(const struct cuda_network *n, int index);
float *cuda_gradients(const struct cuda_network *n, float *gradients, int index);
// The layer's pixels (before its pool) as rows, of the samples that count.
struct columns cuda_columns(const struct cuda_network *n, const struct cuda_layer *l);
struct pool cuda_pool(const struct cuda_network *n, const struct cuda_layer *l);
static inline void *cuda_layer_input(const struct cuda_network *n, const struct cuda_layer *l)
{
    return l->x != NULL ? l->x : n->input->values;
}

// ---- layer.c
// The layers of the graph; RETORT_USAGE for what this engine cannot do.
int cuda_layers_create(struct cuda_network *n);
// Their buffers.
int cuda_layers_plan_memory(struct cuda_network *n);

// ---- product.c
// What cuDNN is asked for in each direction; needs no GPU.
void cuda_product_shapes(struct product *p, const struct cuda_network *n,
                         const struct cuda_layer *l);
// Shapes and filters of all products; memory for their weights.
int cuda_products_create(struct cuda_network *n);
void cuda_products_destroy(struct cuda_network *n);
bool cuda_product_has(const struct cuda_network *n, const struct cuda_layer *l,
                      enum direction direction);
// Whether that pass of a training step, through this layer, leaves sums in n->partials for the
// BatchNorm that comes next in it: behind the layer in forward, before it in backward.
bool cuda_product_sums(const struct cuda_network *n, const struct cuda_layer *l,
                       enum cuda_pass pass);
// Queues one direction of the layer's product.
int cuda_product_run(struct cuda_network *n, struct cuda_layer *l, enum direction direction);

// ---- plan.c: "batch 50 bf16;conv1 out=22:17.3,18.0 weights=40 sums=7 insums=9;…"
// Fills every product's plans from the text, or by timing when it is NULL.
int cuda_plan_apply(struct cuda_network *n, const char *text);
int cuda_network_plan(const struct network *n, char **out);

// ---- choose.c
// Whether plans of an engine with these numerical notes, with this workspace, may be taken.
bool cuda_engine_allowed(const struct cuda_engine *e, uint32_t notes);
bool cuda_workspace_allowed(int64_t bytes);
// Whether it is worth asking cuDNN for plans of that direction.
bool cuda_product_offered(const struct cuda_layer *l, enum direction direction);
// The fastest plan of one direction, by timing, or (timed = false) the first that does.
// Directions with sums may be left without one, and come after the plain ones, against which they
// are timed.
int cuda_product_choose(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                        bool timed);
// By the offer in product->offer; *accepted = false, without a message, when cuDNN refuses it.
int cuda_product_follow(struct cuda_network *n, struct cuda_layer *l, enum direction direction,
                        bool *accepted);

// ---- norm.c
// The layer's own passes, for its partial sums: into n->partials. Forward's is over its input,
// backward's over its input and dy.
int cuda_norm_moments(struct cuda_network *n, struct cuda_layer *l);
int cuda_norm_gradient_moments(struct cuda_network *n, struct cuda_layer *l);
// What a synchronised BatchNorm asks of the whole batch:
// n->base.sums of this micro-batch; returns through *count how many they are. Gradients of gamma
// and beta wait for the layer's backward: another micro-batch's may share their arena until then.
int cuda_norm_sums(struct cuda_network *n, struct cuda_layer *l, enum cuda_pass pass,
                   size_t *count);
int cuda_norm_totals(struct cuda_network *n, struct cuda_layer *l, enum cuda_pass pass,
                     const double *totals);
// Running statistics' ranges of the gradients.
int cuda_norm_report(struct cuda_network *n, struct cuda_layer *l,
                     const struct step_scalars *scalars, float *gradients);

// ---- loss.c
int cuda_network_loss(struct network *n, const struct loss_targets *targets,
                      const struct loss_spec *spec, const struct step_scalars *scalars,
                      double *sums);

// ---- group.c
int cuda_network_forward(struct network *n, const struct input *in, enum forward_mode mode);
int cuda_network_backward(struct network *n, void *gradients, const struct step_scalars *scalars,
                          const struct ready_callback *on_ready);
int cuda_network_beside(struct network **out, struct network *first);
int cuda_group_forward(struct network_group *g, const struct input *const *inputs);
int cuda_group_backward(struct network_group *g, void *const *gradients,
                        const struct step_scalars *scalars, const struct ready_callback *on_ready);
