#pragma once
// A network as a checkpoint holds it: its weights, its graph, and what one must know to use it.

#include "data/checkpoint.h"
#include "data/network_facts.h"
#include "models/engine.h"

struct network_file {
    struct checkpoint checkpoint;
    struct network_facts facts;
    struct graph *graph;                             // owned
    char norm[RECIPE_WORD], activation[RECIPE_WORD]; // as a recipe names them
    int64_t precision;                               // enum precision_kind: it was trained in
    char *plan; // owned: the engine plan to use it by; NULL: not chosen yet (worker/plan.h)
};

// Reads a checkpoint. `data` is the data set that it must fit, or NULL: sizes and normalisation of
// pictures are the checkpoint's own, and those of `data` where it carries none. RETORT_INPUT names
// the file. Not collective.
int network_file_read(struct network_file *out, const char *path, const struct dataset *data);
void network_file_free(struct network_file *f);

// Its raw or its EMA weights, borrowed. `path` is for the message.
int network_file_weights(const struct network_file *f, bool ema, const char *path,
                         const void **out);
// "conv12 with norm batch for pictures of 64 x 64 and 200 classes", into out[NETWORK_TEXT].
enum { NETWORK_TEXT = 160 };
void network_describe(char *out, const struct graph *g, const char *norm,
                      const struct network_facts *facts);
// The JSON that checkpoints carry as `layout`, the caller's to free(); NULL when memory is short.
char *network_layout(const struct graph *g);

// The graph of a recipe's network for pictures of a size and that many classes.
int network_graph(struct graph **out, const struct network_recipe *recipe, int height, int width,
                  int classes);
// How an engine is to read pictures for it.
struct picture_format network_picture_format(const struct network_facts *facts);
// Values of a file, count of them, into engine memory of the engine's own type: f32 widens to f64,
// and f64 is refused by an engine of f32. `path` is for the message.
int network_upload(struct engine *e, void *to, const void *values, size_t count,
                   enum real_type real, const char *path);

// A network on an engine, ready to be evaluated in blocks of DATASET_BLOCK pictures.
struct evaluator {
    struct network *network; // owned
    struct input *input;     // owned
    void *arena;             // owned, engine memory
};
// Raw or EMA weights. `path` is for the message.
int evaluator_open(struct evaluator *v, struct engine *e, const struct network_file *f, bool ema,
                   const char *path);
void evaluator_close(struct evaluator *v, struct engine *e);
