#pragma once
// A file of logits from the inside: what the reader (logits.c) and the writer (logits_write.c)
// share.
//
// The store and a part, "<path>.view<v>", have one format; a part holds one view of the identity's.

#include "data/logits.h"

struct logit_rows { // samples [first, first + count) of one view
    int64_t view, first, count;
};

// Bytes of one view on disk.
uint64_t logits_view_bytes(const struct logit_identity *id);
// Starts a file of `views` views at `path`, its space claimed.
int logits_file_create(struct h5file *f, const char *path, const struct logit_identity *id,
                       int64_t views);
int logits_file_write(const struct h5file *f, const struct logit_identity *id, struct logit_rows r,
                      const uint16_t *logits, const uint64_t *digests);
// Opens a file that holds `views` views; 0: as many as its identity says.
int logits_file_open(struct logit_store *s, const char *path, int64_t views, bool quiet);
