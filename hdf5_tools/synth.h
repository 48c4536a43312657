#pragma once
// A small learnable data set of drawn pictures, as JPEGs in TinyImageNet's own layout:
// train/<id>/images/<id>_<k>.JPEG, val/images/val_<k>.JPEG, val/val_annotations.txt, wnids.txt,
// words.txt. The same options write the same bytes.

#include <stdint.h>

struct synth_options {
    const char *folder; // borrowed; must be new or empty
    int classes;        // up to SYNTH_CLASS_LIMIT
    int per_class, val_per_class;
    int size; // side in pixels
    uint64_t seed;
};

enum { SYNTH_CLASS_LIMIT = 80 };

// The folder is there when it is whole. RETORT_WRITE when it is not empty or cannot be written.
int synth(const struct synth_options *options);
