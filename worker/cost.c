#include "worker/cost.h"

#include <stdio.h>

#include "base/log.h"
#include "worker/views.h"

static double arena_bytes(const struct trainer *t, bool on_disk)
{
    double real = (double)real_bytes(engine_real(t->rank->engine));
    double all = (double)t->graph->total * real, moment = (double)t->graph->trainable * real;
    double bytes = all + moment + (t->arenas.moment2 ? moment : 0) + (t->arenas.ema ? all : 0);
    if (on_disk)
        return bytes;
    return bytes + all + (double)gradient_tree_memory(&t->microbatches.tree); // all: gradients
}

// Activations and pictures of every micro-batch that is held at a time, and of an evaluation.
static double network_bytes(const struct trainer *t)
{
    return (double)(microbatches_memory(&t->microbatches) + network_memory(t->evaluator) +
                    input_memory(t->eval_input));
}

void cost_say_memory(const struct trainer *t)
{
    char data[32], net[32], arenas[32], logits[32], disk[32];
    const struct rank *rank = t->rank;
    int64_t kept = rank->recipe.run.keep_checkpoints + 1;
    format_bytes((double)(shard_memory(rank->train) + shard_memory(rank->val)), data, sizeof data);
    format_bytes(network_bytes(t), net, sizeof net);
    format_bytes(arena_bytes(t, false), arenas, sizeof arenas);
    format_bytes(t->views ? (double)views_memory(t->views) : 0, logits, sizeof logits);
    format_bytes(arena_bytes(t, true) * (double)kept, disk, sizeof disk);
    log_info(
        "%s: %s, %zu parameters; memory a rank: pictures %s, network %s, weights and moments "
        "%s, teacher's logits %s; disk: checkpoints %s",
        stage_name(t->stage), t->graph->arch, t->graph->trainable, data, net, arenas, logits, disk);
}

bool cost_say_time(const struct trainer *t, double samples, double seconds)
{
    char text[32];
    double all = (double)t->sampler.count * (double)t->recipe->epochs;
    if (seconds < 5.0 || samples >= all)
        return false;
    format_duration((all - samples) / samples * seconds, text, sizeof text);
    log_info("%s: about %s to go at %.0f images/s", stage_name(t->stage), text, samples / seconds);
    return true;
}
