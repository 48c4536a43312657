// A checkpoint behind a checksum that fits (tests/fuzz/h5script.h): refused with one line (or none,
// where it is read quietly), or read; and its recipe with it.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"
#include "data/checkpoint.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/h5script.h"

enum { TOTAL = 6, TRAINABLE = 4 };

static void plain(struct script_file *f)
{
    static const uint64_t total[2] = {TOTAL}, trainable[2] = {TRAINABLE};
    static const float values[TOTAL] = {0.5F, -1.0F, 2.0F, 0.0F, 1e-30F, 1e30F};
    static const int64_t count = TRAINABLE;
    *f = (struct script_file){.kind = H5_KIND_CHECKPOINT};
    script_array(f, "/weights", SCRIPT_F32, total, values, sizeof values);
    script_array(f, "/ema", SCRIPT_F32, total, values, sizeof values);
    script_array(f, "/moment1", SCRIPT_F32, trainable, values, TRAINABLE * sizeof *values);
    script_array(f, "/moment2", SCRIPT_F32, trainable, values, TRAINABLE * sizeof *values);
    script_text(f, "state", "{\"stage\":\"student\",\"step\":7,\"plan\":\"\",\"best_top1\":0.5}");
    script_text(f, "layout", "[{\"name\":\"fc.weight\",\"shape\":[2,2],\"offset\":0,\"count\":4}]");
    script_text(f, "recipe", "run: {seed: 2}\n");
    script_text(f, "dataset", "00112233445566778899aabbccddeeff");
    script_text(f, "classes", "[\"ant\",\"bee\"]");
    script_numbers(f, "trainable", SCRIPT_I64, 1, &count, sizeof count);
    script_text(f, "created_by", "retort");
}

static void use(const struct checkpoint *c)
{
    static struct recipe r;
    char checksum[33];
    CHECK(c->weights && c->state && c->layout && c->recipe && c->dataset && c->classes);
    CHECK(json_is_object(c->state) && c->trainable <= c->total);
    checkpoint_arena_checksum(c->weights, c->total, c->real, checksum);
    if (c->moment2) // every byte is there
        checkpoint_arena_checksum(c->moment2, c->trainable, c->real, checksum);
    CHECK(strlen(checksum) == 32);
    fuzz_expect(recipe_from_text(&r, "the checkpoint's recipe", c->recipe), RETORT_USAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct script_file f;
    struct checkpoint c;
    plain(&f);
    script_apply(&f, data, bytes);
    const char *path = script_write(&f);
    int rc = checkpoint_read(&c, path, f.other);
    if (f.other)
        fuzz_expect_quiet(rc, RETORT_INPUT);
    else
        fuzz_expect(rc, RETORT_INPUT);
    if (rc == RETORT_OK)
        use(&c);
    checkpoint_free(&c);
    return 0;
}
