#pragma once
// What tests of models/ share: a network on the reference engine with random weights, pictures and
// labels, and its derivatives by finite differences.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "models/engine.h"
#include "models/host/host.h"

enum { TEST_MAX_BATCH = 8 };

struct bench {
    struct engine *engine;
    struct graph *graph;
    struct input *input;
    struct network *network;
    double *weights, *gradients; // [graph->total]
    double sums[LOSS_SUMS];
    int32_t labels[TEST_MAX_BATCH];
    int64_t ids[TEST_MAX_BATCH]; // 0, 1, 2, …
    const uint16_t *teacher;     // f16 [count, classes], or NULL
    struct loss_spec loss;
    struct step_scalars scalars;
    int count;
};

// Takes the graph over. Weights by He et al. (a deep plain stack keeps its gradients), gamma, beta,
// biases and pictures random: no derivative is zero by accident. Fails the test when anything does.
void bench_open(struct bench *b, struct graph *graph, int count, uint64_t seed);
void bench_close(struct bench *b);
// Pictures [count, 3, H, W].
void bench_pictures(struct bench *b, const double *values, int count);
// Forward and loss: the micro-batch's loss divided by its size; fills sums.
double bench_loss(struct bench *b, enum forward_mode mode);
// bench_loss in training mode, then backward into gradients.
double bench_step(struct bench *b);
// Compares gradients with central differences: each parameter tensor along random directions and
// in `singles` single elements.
void bench_check_gradients(struct bench *b, int singles);

// A graph whose logits are the picture's values themselves: a linear layer with the identity as its
// weights; [count, 3, 1, classes / 3].
void bench_open_identity(struct bench *b, int classes, int count);

// Uniform in (-1, 1), a pure function of its arguments.
double test_uniform(uint64_t seed, uint64_t index);

// An engine on ordinary memory without networks, for what host engines share.
struct engine *host_only_engine(struct host_engine *e, enum real_type real, int threads);
