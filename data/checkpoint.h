#pragma once
// A checkpoint: everything a stage needs to go on as if nothing had happened.
//
//   /weights [total] f32|f64, /ema [total], /moment1 [trainable], /moment2 [trainable]
//     arenas in the canonical layout (models/graph.h); the last three only where they are kept
//   attributes of /: layout (JSON: name, shape, offset, count of every parameter), state (JSON:
//   stage, arch, step, epoch, finished, best_*, plan, …), trainable, recipe (YAML), dataset
//   (fingerprint), classes (JSON list of names), created_by, pictures (JSON: what
//   data/network_facts.h holds of them; the first checkpoints lack it)
//
// ckpt-<step>.h5 in the stage's folder, whole or not there. last.h5 and best.h5 are hard links (or
// copies) made beside and renamed. Written by rank 0. Not collective.

#include <jansson.h>
#include <stdint.h>

#include "base/real.h"
#include "data/h5file.h"

enum { CHECKPOINT_VERSION = 1 };

struct checkpoint {
    enum real_type real;
    size_t total, trainable;
    void *weights, *ema, *moment1, *moment2; // owned by the reader's result; borrowed when writing;
                                             // NULL where not kept
    json_t *state;                           // owned by the reader's result; borrowed when writing
    char *layout, *recipe, *dataset, *classes; // the same
    char *pictures;                            // the same, or NULL
};

// Writes <folder>/ckpt-<step>.h5 (nine digits), then removes checkpoints past the newest `keep`
// whole ones (never the best). RETORT_WRITE leaves the older ones untouched; RETORT_NUMERIC when a
// value is not finite.
int checkpoint_write(const char *folder, int64_t step, const struct checkpoint *c, int64_t keep);
// Writes one file beside no others, whole or not at all.
int checkpoint_write_file(const char *path, const struct checkpoint *c);
// Points best.h5 (or last.h5) at ckpt-<step>.h5.
int checkpoint_link(const char *folder, int64_t step, const char *name);

// Reads one file, whole or RETORT_INPUT. `quiet`: prints nothing.
int checkpoint_read(struct checkpoint *out, const char *path, bool quiet);
// The newest whole checkpoint of a folder; damaged ones are named in one warning each and skipped.
// *step = -1 when there is none (returns RETORT_OK).
int checkpoint_read_newest(struct checkpoint *out, const char *folder, int64_t *step);
void checkpoint_free(struct checkpoint *c);
// XXH3-128 of an f32/f64 arena as 32 hex digits: what names a teacher in a logits file.
void checkpoint_arena_checksum(const void *arena, size_t count, enum real_type real, char out[33]);
