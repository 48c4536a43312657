#pragma once
// What an import is told of a network's pictures and classes, from three places: the file's
// __metadata__, over it a packed data set, over both the command line.

#include "data/network_facts.h"
#include "data/safetensors.h"
#include "worker/import.h"

// RETORT_USAGE says what nobody has told, and how it can be. `fingerprint` is the data set's, ""
// without one.
int import_facts(struct network_facts *out, char fingerprint[33], const struct import_request *q,
                 const struct safetensors *in);
