// weights FILE: a checksum of each arena of a checkpoint, a line each.
// weights FILE OTHER: how far the weights of two checkpoints are apart, norm over norm.

#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "data/checkpoint.h"

static void print_arena(const char *name, const void *arena, size_t count, enum real_type real)
{
    char checksum[33];
    if (!arena)
        return;
    checkpoint_arena_checksum(arena, count, real, checksum);
    printf("%s %s\n", name, checksum);
}

static double value(const struct checkpoint *c, size_t i)
{
    return c->real == REAL_F64 ? ((const double *)c->weights)[i]
                               : (double)((const float *)c->weights)[i];
}

static double distance(const struct checkpoint *a, const struct checkpoint *b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a->total; i++) {
        difference += (value(a, i) - value(b, i)) * (value(a, i) - value(b, i));
        norm += value(a, i) * value(a, i);
    }
    return sqrt(difference / norm);
}

int main(int argc, char **argv)
{
    struct checkpoint c = {0}, other = {0};
    int rc = RETORT_USAGE;
    if (argc != 2 && argc != 3)
        return rc;
    TRY(checkpoint_read(&c, argv[1], false));
    if (argc == 3) {
        TRY(checkpoint_read(&other, argv[2], false));
        TRY_ELSE(c.total == other.total, RETORT_INPUT, "%s and %s are of two networks", argv[1],
                 argv[2]);
        printf("%.3g\n", distance(&c, &other));
    } else {
        print_arena("weights", c.weights, c.total, c.real);
        print_arena("ema", c.ema, c.total, c.real);
        print_arena("moment1", c.moment1, c.trainable, c.real);
        print_arena("moment2", c.moment2, c.trainable, c.real);
    }
fail:
    checkpoint_free(&c);
    checkpoint_free(&other);
    return rc;
}
