#include <math.h>

#include "base/random.h"
#include "models/graph.h"

static double weight_deviation(const struct param *p, enum init_kind init)
{
    if (init == INIT_KAIMING_NORMAL)
        return sqrt(2.0 / p->fan_in);
    return sqrt(2.0 / ((double)p->fan_in + p->fan_out));
}

// One draw gives four weights: two pairs of normal deviates.
static void fill_normal(float *out, size_t count, double deviation, uint64_t seed, uint32_t layer)
{
    double normal[4];
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0) {
            struct random_block r = random_draw(seed, RANDOM_INIT, layer, i / 4);
            random_normal_pair(r.v[0], r.v[1], normal);
            random_normal_pair(r.v[2], r.v[3], normal + 2);
        }
        out[i] = (float)(deviation * normal[i % 4]);
    }
}

// Four weights a draw.
static void fill_uniform(float *out, size_t count, double bound, uint64_t seed, uint32_t layer)
{
    struct random_block r = {0};
    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            r = random_draw(seed, RANDOM_INIT, layer, i / 4);
        out[i] = (float)(bound * (2.0 * random_unit(r.v[i % 4]) - 1.0));
    }
}

static void fill_weights(float *out, const struct param *p, enum init_kind init, uint64_t seed,
                         uint32_t layer)
{
    if (init == INIT_FAN_IN_UNIFORM)
        fill_uniform(out, p->count, 1.0 / sqrt(p->fan_in), seed, layer);
    else
        fill_normal(out, p->count, weight_deviation(p, init), seed, layer);
}

static void fill(float *out, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        out[i] = value;
}

// Layers are numbered among those with weights: a network with norms starts from the same weights
// as the one without.
void graph_init_weights(const struct graph *g, enum init_kind init, uint64_t seed, float *arena)
{
    uint32_t layer = 0;
    for (int i = 0; i < g->param_count; i++) {
        const struct param *p = &g->params[i];
        float *out = arena + p->offset;
        if (p->role == PARAM_WEIGHT)
            fill_weights(out, p, init, seed, layer++);
        else
            fill(out, p->count, p->role == PARAM_GAMMA || p->role == STAT_VARIANCE ? 1.0f : 0.0f);
    }
}
