#pragma once
// What one must know of a network to use it: the size of its pictures, how they are normalised, and
// what its classes are called. Checkpoints carry it, and files that are exchanged with others.
//
// As text, pictures are {"height":64,"width":64,"mean":[r,g,b],"deviation":[r,g,b]} (of pixels in
// [0, 1]; 17 digits, so that reading gives the same numbers), classes a JSON list of names.

#include "data/checkpoint.h"
#include "data/dataset.h"

struct network_facts {
    int height, width, class_count;
    double mean[3], deviation[3];
    json_t *classes; // owned: list of texts
};

// RETORT_INPUT when the texts of the file `name` make no sense.
int network_facts_parse(struct network_facts *out, const char *name, const char *pictures,
                        const char *classes);
int network_facts_of_dataset(struct network_facts *out, const struct dataset *d);
// What a checkpoint carries; of one that doesn't, what the data set that it was trained on says,
// which must stand where it stood.
int network_facts_of_checkpoint(struct network_facts *out, const struct checkpoint *c,
                                const char *path);
void network_facts_free(struct network_facts *f);

// The two texts, the caller's to free(); NULL when memory is short.
char *network_facts_pictures(const struct network_facts *f);
char *network_facts_classes(const struct network_facts *f);
// Borrowed.
const char *network_facts_class(const struct network_facts *f, int index);
