#pragma once
// Adds up the gradients of a rank's micro-batches by the fixed binary tree (comm_tree_split), range
// by range of the arena, in the memory of one arena a level.
//
//     for each micro-batch k = 0, 1, …:
//         backward into gradient_tree_leaf(&tree, k)
//         gradient_tree_add(&tree, k, 0, total)      // the sum is in `root` after the last one
//
// Ranges may come one by one, as a backward pass gets them ready: then all micro-batches' first
// range, all their second, …

#include <stddef.h>

#include "models/engine.h"

enum { GRADIENT_TREE_DEPTH = 32 };

struct gradient_tree {
    struct engine *engine;            // borrowed
    size_t total;                     // elements of an arena
    int parts;                        // micro-batches
    void *root;                       // borrowed: the arena of the sum
    void *right[GRADIENT_TREE_DEPTH]; // owned: sums of right-hand nodes, a level each
};

// RETORT_MEMORY leaves what gradient_tree_free takes.
int gradient_tree_init(struct gradient_tree *t, struct engine *e, size_t total, int parts,
                       void *root);
void gradient_tree_free(struct gradient_tree *t);           // takes a zeroed one
size_t gradient_tree_memory(const struct gradient_tree *t); // without `root`
// The arena that micro-batch k's gradients belong in. Several share one: see gradient_tree_add.
void *gradient_tree_leaf(const struct gradient_tree *t, int k);
// [begin, end) of micro-batch k's gradients is there, and of those before it: adds every sum that
// is complete with it. After that the range of k's arena may be written again.
int gradient_tree_add(const struct gradient_tree *t, int k, size_t begin, size_t end);
