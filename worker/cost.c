#include "worker/cost.h"

#include <stdio.h>

#include "base/log.h"
#include "worker/own_range.h"
#include "worker/views.h"

// Moments and EMA, of which there are `moment` and `average` elements.
static double state_bytes(const struct trainer *t, size_t moment, size_t average)
{
    size_t count = moment * (t->arenas.moment2 ? 2 : 1) + (t->arenas.ema ? average : 0);
    return (double)count * (double)real_bytes(engine_real(t->rank->engine));
}

static double weight_bytes(const struct trainer *t)
{
    return (double)t->graph->total * (double)real_bytes(engine_real(t->rank->engine));
}

// What rank 0 holds: where they are sharded, no rank's range is larger but for a few elements.
static double arena_bytes(const struct trainer *t)
{
    return 2 * weight_bytes(t) + (double)gradient_tree_memory(&t->microbatches.tree) +
           state_bytes(t, own_range_of(t, t->graph->trainable).count,
                       own_range_of(t, t->graph->total).count);
}

static double checkpoint_bytes(const struct trainer *t)
{
    return weight_bytes(t) + state_bytes(t, t->graph->trainable, t->graph->total);
}

// Activations and pictures of every micro-batch that is held at a time, and of an evaluation.
static double network_bytes(const struct trainer *t)
{
    return (double)(microbatches_memory(&t->microbatches) + network_memory(t->evaluator) +
                    input_memory(t->eval_input));
}

void cost_say_memory(const struct trainer *t)
{
    char data[32], resident[32], on_gpu[64] = "", net[32], arenas[32], logits[32], disk[32];
    const struct rank *rank = t->rank;
    int64_t kept = rank->recipe.run.keep_checkpoints + 1;
    format_bytes((double)(shard_memory(rank->train) + shard_memory(rank->val)), data, sizeof data);
    format_bytes((double)(shard_resident(rank->train) + shard_resident(rank->val)), resident,
                 sizeof resident);
    if (engine_stream(rank->engine))
        (void)snprintf(on_gpu, sizeof on_gpu, " (%s of it on the GPU)", resident);
    format_bytes(network_bytes(t), net, sizeof net);
    format_bytes(arena_bytes(t), arenas, sizeof arenas);
    format_bytes(t->views ? (double)views_memory(t->views) : 0, logits, sizeof logits);
    format_bytes(checkpoint_bytes(t) * (double)kept, disk, sizeof disk);
    log_info(
        "%s: %s, %zu parameters; memory a rank: pictures %s%s, network %s, weights and moments "
        "%s, teacher's logits %s; disk: checkpoints %s",
        stage_name(t->stage), t->graph->arch, t->graph->trainable, data, on_gpu, net, arenas,
        logits, disk);
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
