// Stored logits behind a checksum that fits (tests/fuzz/h5script.h): refused with one line, or
// read.

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "data/logits.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/h5script.h"

enum { VIEWS = 2, SAMPLES = 3, CLASSES = 4, ROWS = 128 };

static void plain(struct script_file *f)
{
    static const uint64_t logits[4] = {VIEWS, SAMPLES, CLASSES}, digests[3] = {VIEWS, SAMPLES};
    static const int64_t views = VIEWS, seed = 1, augment = 1;
    uint8_t values[VIEWS * SAMPLES * 8];
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = (uint8_t)i;
    *f = (struct script_file){.kind = H5_KIND_LOGITS};
    script_array(f, "/logits", SCRIPT_F16, logits, values, sizeof values);
    script_array(f, "/pixels_xxh3", SCRIPT_U64, digests, values, sizeof values);
    script_numbers(f, "views", SCRIPT_I64, 1, &views, sizeof views);
    script_numbers(f, "seed", SCRIPT_I64, 1, &seed, sizeof seed);
    script_numbers(f, "augment", SCRIPT_I64, 1, &augment, sizeof augment);
    script_text(f, "weights", "ema");
    script_text(f, "dataset", "00112233445566778899aabbccddeeff");
    script_text(f, "teacher", "ffeeddccbbaa99887766554433221100");
    script_text(f, "precision", "f32");
    script_text(f, "created_by", "retort");
}

// The first rows and the last one of the first and the last view.
static void read_rows(const struct logit_store *s)
{
    const struct logit_identity *id = &s->identity;
    int64_t count = id->samples < ROWS ? id->samples : ROWS;
    CHECK(id->views > 0 && id->samples > 0 && id->classes > 0);
    uint16_t *logits = malloc((size_t)(count * id->classes) * sizeof *logits);
    uint64_t digests[ROWS];
    CHECK(logits);
    fuzz_expect(logit_store_read(s, 0, 0, count, logits, digests), RETORT_INPUT);
    fuzz_expect(logit_store_read(s, id->views - 1, id->samples - 1, 1, logits, digests),
                RETORT_INPUT);
    free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct script_file f;
    struct logit_store s;
    char why[256];
    plain(&f);
    script_apply(&f, data, bytes);
    const char *path = script_write(&f);
    int rc = logit_store_open(&s, path, f.other);
    if (f.other)
        fuzz_expect_quiet(rc, RETORT_INPUT);
    else
        fuzz_expect(rc, RETORT_INPUT);
    if (rc != RETORT_OK)
        return 0;
    CHECK(logit_identity_matches(&s.identity, &s.identity, why, sizeof why) && !why[0]);
    read_rows(&s);
    logit_store_close(&s);
    return 0;
}
