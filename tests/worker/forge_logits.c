// forge_logits IN OUT digest | FACTOR BLOCK: a file of logits with the identity of another one, in
// which the digests of some rows are wrong, or their logits are FACTOR times what they were: every
// fourth row of the last view, from block BLOCK on.

#include <stdlib.h>
#include <string.h>

#include "base/arith/half.h"
#include "base/error.h"
#include "data/dataset.h"
#include "data/logits.h"

enum { EVERY = 4 };

static void forge(uint16_t *logits, uint64_t *digest, int64_t classes, const char *how)
{
    int fits;
    double factor = strtod(how, NULL);
    if (strcmp(how, "digest") == 0)
        *digest ^= 1;
    for (int64_t c = 0; factor != 0.0 && c < classes; c++)
        logits[c] = half_from_double(factor * half_to_double(logits[c]), &fits);
}

int main(int argc, char **argv)
{
    struct logit_store store = {.file = {.id = -1}};
    struct logit_writer *w = NULL;
    uint16_t *logits = NULL;
    uint64_t *digests = NULL;
    int64_t next, samples, classes;
    int rc = RETORT_USAGE;
    if (argc != 5)
        return rc;
    TRY(logit_store_open(&store, argv[1], false));
    samples = store.identity.samples;
    classes = store.identity.classes;
    logits = malloc((size_t)(samples * classes) * sizeof *logits);
    digests = malloc((size_t)samples * sizeof *digests);
    TRY_ELSE(logits && digests, RETORT_MEMORY, "no memory");
    TRY(logit_writer_create(&w, argv[2], &store.identity, &next));
    for (int64_t view = 0; view < store.identity.views; view++) {
        TRY(logit_store_read(&store, view, 0, samples, logits, digests));
        for (int64_t i = strtol(argv[4], NULL, 10) * DATASET_BLOCK; i < samples; i += EVERY)
            if (view == store.identity.views - 1)
                forge(logits + i * classes, digests + i, classes, argv[3]);
        TRY(logit_writer_put(w, 0, samples, logits, digests));
        TRY(logit_writer_end_view(w));
    }
    TRY(logit_writer_commit(&w));
fail:
    logit_writer_discard(&w);
    logit_store_close(&store);
    free(logits);
    free(digests);
    return rc;
}
