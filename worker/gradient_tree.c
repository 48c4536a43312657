#include "worker/gradient_tree.h"

#include "base/error.h"
#include "comm/comm.h"

int gradient_tree_init(struct gradient_tree *t, struct engine *e, size_t total, int parts,
                       void *root)
{
    int depth = 0;
    *t = (struct gradient_tree){.engine = e, .total = total, .parts = parts, .root = root};
    for (int rest = parts; rest > 1; rest = (rest + 1) / 2) {
        t->right[depth] = engine_alloc(e, total * real_bytes(engine_real(e)));
        if (t->right[depth++] == NULL)
            return RETORT_MEMORY;
    }
    return RETORT_OK;
}

void gradient_tree_free(struct gradient_tree *t)
{
    for (int i = 0; i < GRADIENT_TREE_DEPTH && t->right[i] != NULL; i++)
        engine_free(t->engine, t->right[i]);
    *t = (struct gradient_tree){0};
}

size_t gradient_tree_memory(const struct gradient_tree *t)
{
    size_t bytes = 0;
    for (int i = 0; i < GRADIENT_TREE_DEPTH && t->right[i] != NULL; i++)
        bytes += t->total * real_bytes(engine_real(t->engine));
    return bytes;
}

// A node's left half is summed where the node is, its right half in the level's own arena.
void *gradient_tree_leaf(const struct gradient_tree *t, int k)
{
    void *arena = t->root;
    int64_t a = 0, b = t->parts;
    for (int depth = 0; b - a > 1; depth++) {
        int64_t middle = comm_tree_split(a, b);
        if (k < middle) {
            b = middle;
        } else {
            a = middle;
            arena = t->right[depth];
        }
    }
    return arena;
}

// The node [a, b) over leaf k, summed in `arena`: deeper nodes are complete before.
static int add_below(const struct gradient_tree *t, int64_t a, int64_t b, int64_t k, char *arena,
                     int depth, size_t begin, size_t end)
{
    enum real_type real = engine_real(t->engine);
    size_t offset = begin * real_bytes(real);
    int64_t middle = comm_tree_split(a, b);
    int rc = RETORT_OK;
    if (b - a == 1)
        return RETORT_OK;
    if (k < middle)
        return add_below(t, a, middle, k, arena, depth + 1, begin, end);
    char *right = t->right[depth];
    TRY(add_below(t, middle, b, k, right, depth + 1, begin, end));
    if (k == b - 1)
        TRY(engine_add(t->engine, arena + offset, right + offset, end - begin, real));
fail:
    return rc;
}

int gradient_tree_add(const struct gradient_tree *t, int k, size_t begin, size_t end)
{
    return add_below(t, 0, t->parts, k, t->root, 0, begin, end);
}
