#pragma once
// The machine's cache of engine plans, ~/.cache/retort/plans, so that runs on one machine agree and
// timing is done once. A convenience: what cannot be read or written is passed over in silence.
//
// A file holds "retort <version> plan <XXH3 of the text>\n" and the text. Its name is a hash of all
// that a plan depends on: this program's version, the engine with its processor, threads and
// libraries, whether it may take algorithms whose bits differ from run to run, the network and its
// largest batch.

#include "base/file.h"
#include "models/engine.h"

// The cache's file for `g` on the engine; "" when there is no home.
void plan_cache_path(char out[PATH_CAPACITY], const struct engine *e, const struct graph *g,
                     int max_batch);
// The plan in the file, the caller's to free; NULL when there is none. One that is damaged is worth
// a warning.
char *plan_cache_read(const char *path);
void plan_cache_write(const char *path, const char *plan);
