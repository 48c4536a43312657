#pragma once
// `retort import`: a safetensors file of PyTorch's weights as a checkpoint.
//
// Weights do not say what network they are of, how its pictures are normalised and what its classes
// are called. That comes from the command line; else from a packed data set that it names; else
// from the file's __metadata__, where `retort export` puts it (worker/export.h).

struct import_request {
    const char *in, *out;
    const char *arch, *norm, *activation; // as in a recipe; "": not given, as in all below
    const char *data;                     // a packed data set
    const char *size;                     // "64", "24x40": width x height
    const char *mean, *deviation;         // "0.48,0.45,0.40", of pixels in [0, 1]
    const char *classes;                  // a text file, a name a line
};

// Not collective: no ranks.
int import_checkpoint(const struct import_request *request);
