#pragma once
// What tests of models/ share: a network on any engine with random weights, pictures and
// labels, its derivatives by finite differences, and how far two engines are apart.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "models/engine.h"
#include "models/host/host.h"

enum { TEST_MAX_BATCH = 40 };

struct bench {
    struct engine *engine;
    struct graph *graph; // owned
    struct input *input;
    struct network *network;
    void *arena, *gradient_arena; // engine memory, the engine's real type
    // [graph->total] on the host: bench_loss takes weights to the engine, bench_step brings
    // gradients.
    double *weights, *gradients;
    float *narrow; // [graph->total] scratch
    struct {       // the same, in engine memory: bench_loss takes them there
        int32_t *labels;
        uint16_t *teacher;
        double *sums;
        struct step_scalars *scalars;
    } on_engine;
    double sums[LOSS_SUMS];
    int32_t labels[TEST_MAX_BATCH];
    int64_t ids[TEST_MAX_BATCH]; // 0, 1, 2, …
    const uint16_t *teacher;     // f16 [count, classes], or NULL
    struct loss_spec loss;
    struct step_scalars scalars;
    int count;
};

struct bench_options {
    const char *device; // "reference", "cpu", "softgpu", "cuda"
    int threads, max_batch;
    const char *plan;  // NULL: the engine chooses
    bool evaluates;    // a network without training
    int64_t precision; // 0: f64 on the reference engine, f32 elsewhere
};

// Takes the graph over. Weights by He et al. (a deep plain stack keeps its gradients), gamma, beta,
// biases and pictures random: no derivative is zero by accident. Fails the test when anything does.
void bench_open_on(struct bench *b, const struct bench_options *options, struct graph *graph,
                   int count, uint64_t seed);
// On the reference engine, for batches of at most 8.
void bench_open(struct bench *b, struct graph *graph, int count, uint64_t seed);
void bench_close(struct bench *b);
// Whether this build has the engine.
bool bench_has_device(const char *device);
// Pictures [count, 3, H, W]: given ones, or random ones that begin alike for any count.
void bench_pictures(struct bench *b, const double *values, int count);
void bench_random_pictures(struct bench *b, int count, uint64_t seed);
// Takes `weights` to the engine; bench_loss does it by itself.
void bench_set_weights(struct bench *b);
// Forward and loss: the micro-batch's loss divided by its size; fills sums.
double bench_loss(struct bench *b, enum forward_mode mode);
// bench_loss in training mode, then backward into gradients.
double bench_step(struct bench *b);
// Logit i of the last forward.
double bench_logit(const struct bench *b, size_t i);
// Element i of engine memory; elements [0, count), count <= graph->total.
double bench_real(const struct bench *b, const void *values, size_t i);
void bench_take(const struct bench *b, double *to, const void *values, size_t count);
// Of an arena.
size_t bench_bytes(const struct bench *b);
// Compares gradients with central differences: each parameter tensor along random directions and
// in `singles` single elements.
void bench_check_gradients(struct bench *b, int singles);
// One step and one evaluation on both, of the same network and weights: logits, and gradients and
// statistics of every parameter, differ by at most `limit`, norm over norm.
void bench_check_alike(struct bench *b, struct bench *expected, double limit);
// Logits of the last forward of each.
void bench_check_logits_alike(const struct bench *b, const struct bench *expected, double limit);

// ||a - b|| / ||b||; ||a|| where b is zero.
double test_difference(const double *a, const double *b, size_t count);

// A graph whose logits are the picture's values themselves: a linear layer with the identity as its
// weights; [count, 3, 1, classes / 3].
void bench_open_identity(struct bench *b, const char *device, int classes, int count);

// Uniform in (-1, 1), a pure function of its arguments.
double test_uniform(uint64_t seed, uint64_t index);

// An engine on ordinary memory without networks, for what host engines share.
struct engine *host_only_engine(struct host_engine *e, enum real_type real, int threads);
