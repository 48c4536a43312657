#include "tests/cuda/plan_text.h"

#include <stdio.h>
#include <string.h>

char *plan_text(const struct graph *g, bool sums)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return NULL;
    fputs("batch 0", out);
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].kind == NODE_CONV || g->nodes[i].kind == NODE_LINEAR)
            fprintf(out, ";%s out=0 in=0 weights=0%s", g->nodes[i].name,
                    sums ? " sums=0 insums=0" : "");
    return fclose(out) == 0 ? text : NULL;
}

int plan_text_count(const char *plan, const char *word)
{
    int count = 0;
    for (const char *p = strstr(plan, word); p != NULL; p = strstr(p + 1, word))
        count++;
    return count;
}
