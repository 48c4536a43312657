#pragma once
// The recipe: what a run does, read from YAML by one table of options.
//
// One row a key (base/recipe_table.c): path, type, range, default, whether it changes results, one
// line of help. The table makes the parser, `--set`, the printed recipe and the comparison on
// resume. Everything has a default. Errors name file, line and the key's path (RETORT_USAGE).

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/file.h"

enum { RECIPE_WORD = 32 };

enum stage { STAGE_TEACHER, STAGE_LOGITS, STAGE_BASELINE, STAGE_STUDENT, STAGE_COUNT };

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAMW };
enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_STEP, SCHEDULE_COSINE };
enum distill_kind { DISTILL_NONE, DISTILL_KD };
enum reduction_kind { REDUCTION_BATCH, REDUCTION_ELEMENTWISE };
enum shuffle_kind { SHUFFLE_GLOBAL, SHUFFLE_SHARD };
enum norm_kind { NORM_NONE, NORM_BATCH, NORM_BATCH_SYNC };
enum activation_kind { ACTIVATION_NONE, ACTIVATION_RELU };
enum init_kind { INIT_XAVIER_NORMAL, INIT_KAIMING_NORMAL, INIT_FAN_IN_UNIFORM };
enum precision_kind {
    PRECISION_AUTO,
    PRECISION_F32,
    PRECISION_F64,
    PRECISION_BF16,
    PRECISION_TF32,
    PRECISION_FP16
};
enum logit_dtype { LOGITS_F16 };
enum logit_weights { WEIGHTS_RAW, WEIGHTS_EMA };

// How one network is trained. `teacher` and `student`; stage baseline uses the student's,
// undistilled.
struct network_recipe {
    char arch[RECIPE_WORD];   // conv12, conv4
    char from[PATH_CAPACITY]; // an existing checkpoint in place of training (teacher.from), or ""
    int64_t norm, activation, init;
    int64_t epochs, batch; // batch is global
    double label_smoothing;
    struct {
        int64_t kind;
        double lr, momentum, weight_decay, beta1, beta2, epsilon;
        bool nesterov;
        bool shard; // over the ranks, with the average
    } optimizer;
    struct {
        int64_t kind;
        double warmup_epochs, final_lr; // linear from 0; final_lr is what cosine ends at
        double step_epochs, step_factor;
    } schedule;
    struct {
        int64_t kind, reduction;
        double temperature, alpha;
    } distill;
    struct {
        bool enabled;
        double decay;
    } ema;
};

struct recipe {
    struct {
        char path[PATH_CAPACITY];
        int64_t augment, shuffle; // enum augment_kind, enum shuffle_kind
    } data;
    struct network_recipe teacher, student;
    struct {
        char path[PATH_CAPACITY]; // an existing logits.h5, or ""
        int64_t views;            // 0 = auto until resolved
        int64_t dtype, weights;   // enum logit_dtype, enum logit_weights
    } logits;
    struct {
        bool stages[STAGE_COUNT];
        int64_t seed, precision;
        bool deterministic;
        int64_t microbatches;     // 0 = auto until resolved
        int64_t threads;          // 0 = auto until resolved; a rank's
        int64_t ranks;            // of the first start; 0 until resolved; not compared on resume
        double loss_scale;        // fp16: of the first step, a power of two
        int64_t loss_scale_steps; // fp16: good steps after which it doubles
        double checkpoint_every_s, log_every_s, watchdog_s;
        int64_t keep_checkpoints;
    } run;
};

// Defaults only.
void recipe_defaults(struct recipe *r);
// Defaults, then the file. RETORT_INPUT: no such file; RETORT_USAGE: anything wrong inside.
int recipe_load(struct recipe *r, const char *path);
// The same from a text; `name` stands in for the file's in messages.
int recipe_from_text(struct recipe *r, const char *name, const char *text);
// "teacher.optimizer.lr=0.1"
int recipe_set(struct recipe *r, const char *assignment);
// The same of a key that there is, whose value comes from elsewhere: `name` says so in messages.
int recipe_set_value(struct recipe *r, const char *name, const char *path, const char *text);
// The value of "teacher.optimizer.lr" as recipe_set reads it, into out[out_bytes].
void recipe_get(const struct recipe *r, const char *path, char *out, size_t out_bytes);
// enum precision_kind in which `device` computes when it is asked for `asked`: auto is bf16 on
// GPUs, f32 on processors, f64 on the reference engine, and bf16 becomes f32 on a processor that
// gains nothing by it (base/processor.h). What is left the device has, or refuses. Where the device
// is still "auto", `asked`.
int64_t precision_on(const char *device, int64_t asked);
// Checks what single ranges cannot (warm-up longer than the schedule, student without logits, …)
// and fills in `auto`: microbatches from `ranks`, threads, views, precision, a data path made
// absolute relative to the current folder. Call once, at the first start.
int recipe_resolve(struct recipe *r, int ranks, int threads);

// The whole recipe as YAML, every key with its value; reading it back gives the same recipe.
int recipe_print(const struct recipe *r, FILE *out);
// The same into a string, the caller's to free().
int recipe_to_text(const struct recipe *r, char **out);
// Keys that change results and differ, as "run.seed: 1 in the folder, 2 asked for" lines into
// out (at most out_bytes); returns their number. Stages are not compared.
int recipe_difference(const struct recipe *folder, const struct recipe *asked, char *out,
                      size_t out_bytes);
// Every key, type, range, default and help, for `retort run --help` and docs.
void recipe_describe(FILE *out);

// The recipe of a stage's network (NULL for logits) and the stage's name.
const struct network_recipe *recipe_network(const struct recipe *r, enum stage stage);
const char *stage_name(enum stage stage);
// RETORT_USAGE for an unknown name.
int stage_parse(const char *name, enum stage *out);
