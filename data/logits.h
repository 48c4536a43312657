#pragma once
// Stored teacher logits: per (view, sample id), with what proves that they belong to the pixels.
//
//   /logits [V, N, classes] f16, /pixels_xxh3 [V, N] u64 (XXH3-64 of the augmented u8 pixels)
//   attributes of /: views, seed, augment, dataset (its fingerprint), teacher (checksum of its
//   weights arena: XXH3-128, text), weights (raw | ema), created_by
//
// While a pass is under way each finished view is a file of its own beside the store,
// "<path>.view<v>", whole or not there, so that a killed pass goes on with the next view.

#include <stdint.h>

#include "data/h5file.h"

enum { LOGITS_VERSION = 1 };

struct logit_identity { // what must match
    int64_t views, samples, classes;
    uint64_t seed;
    int64_t augment;    // enum augment_kind
    int64_t weights;    // enum logit_weights
    char dataset[33];   // fingerprint
    char teacher[33];   // checksum of the teacher's weights
    char precision[16]; // what they were computed in: "f32", "f64", "bf16"
};

// Rank 0 writes. Begins or continues a pass for this identity: views already whole are kept (parts
// of another identity are removed); *next_view is the first view to compute.
struct logit_writer; // opaque
int logit_writer_create(struct logit_writer **out, const char *path,
                        const struct logit_identity *identity, int64_t *next_view);
// Rows [first, first + count) of the view under way; logits f16 [count, classes].
int logit_writer_put(struct logit_writer *w, int64_t first, int64_t count, const uint16_t *logits,
                     const uint64_t *digests);
// The view under way is complete: on disk, whole.
int logit_writer_end_view(struct logit_writer *w);
// All views are there: assembles the store, renames it, removes the parts. Frees w either way.
int logit_writer_commit(struct logit_writer **w);
void logit_writer_discard(struct logit_writer **w); // keeps whole parts; takes NULL

// Removes what a pass that was killed after its store was whole has left beside it.
int logit_parts_remove(const char *path);

struct logit_store {
    struct h5file file;
    struct logit_identity identity;
};
// RETORT_INPUT when it is not a whole logits file.
int logit_store_open(struct logit_store *s, const char *path, bool quiet);
void logit_store_close(struct logit_store *s);
int logit_store_read(const struct logit_store *s, int64_t view, int64_t first, int64_t count,
                     uint16_t *logits, uint64_t *digests);
// Prints nothing; writes what differs ("the data set", "the seed", …) into why, returns whether all
// fits. `teacher` is compared only when wanted->teacher is not "".
bool logit_identity_matches(const struct logit_identity *stored,
                            const struct logit_identity *wanted, char *why, size_t why_bytes);
