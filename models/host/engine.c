#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "models/host/host.h"

enum { CACHE_LINE_BYTES = 64, HUGE_PAGE_BYTES = 2 << 20 };

// Large blocks begin on a huge page and ask for such pages: kernels walk through tens of places of
// them at once, and addresses are then found in fewer steps.
void *host_calloc(size_t bytes)
{
    bool large = bytes >= HUGE_PAGE_BYTES;
    size_t rounded = bytes + CACHE_LINE_BYTES - bytes % CACHE_LINE_BYTES;
    void *p = NULL;
    if (posix_memalign(&p, large ? HUGE_PAGE_BYTES : CACHE_LINE_BYTES, rounded) != 0)
        return NULL;
    if (large)
        (void)madvise(p, rounded, MADV_HUGEPAGE); // where there are none, others do
    memset(p, 0, rounded);
    return p;
}

// The text after "model name : " of the first processor that has one.
void host_processor(char *out, size_t out_bytes)
{
    char line[256];
    snprintf(out, out_bytes, "unknown processor");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (f == NULL)
        return;
    while (fgets(line, sizeof(line), f) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out, out_bytes, "%s", colon);
        break;
    }
    fclose(f);
}

void host_engine_init(struct host_engine *e, const struct engine_ops *ops, enum real_type real,
                      int threads, const char *detail)
{
    char processor[80];
    host_processor(processor, sizeof(processor));
    e->base.ops = ops;
    e->real = real;
    e->threads = threads > 0 ? threads : 1;
    snprintf(e->description, sizeof(e->description), "%s (%d thread%s, %s)", processor, e->threads,
             e->threads == 1 ? "" : "s", detail);
}

enum real_type host_real(const struct engine *e)
{
    return host_engine_of(e)->real;
}

const char *host_describe(const struct engine *e)
{
    return host_engine_of(e)->description;
}

void *host_alloc(struct engine *e, size_t bytes)
{
    void *p = host_calloc(bytes);
    if (p == NULL)
        error_report(RETORT_MEMORY, __FILE__, "no memory for %zu bytes on device %s", bytes,
                     e->ops->name);
    return p;
}

void host_free(struct engine *e, void *p)
{
    (void)e;
    free(p);
}

int host_copy(struct engine *e, void *to, const void *from, size_t bytes)
{
    (void)e;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return RETORT_OK;
}

int host_synchronize(struct engine *e)
{
    (void)e;
    return RETORT_OK;
}

int host_zero(struct engine *e, void *p, size_t bytes)
{
    (void)e;
    if (bytes > 0)
        memset(p, 0, bytes);
    return RETORT_OK;
}

int host_gather(struct engine *e, void *to, const void *from, const int64_t *rows, size_t count,
                size_t row_bytes)
{
    (void)e;
    for (size_t i = 0; i < count; i++)
        memcpy((char *)to + i * row_bytes, (const char *)from + (size_t)rows[i] * row_bytes,
               row_bytes);
    return RETORT_OK;
}

void *host_network_logits(struct network *n)
{
    return host_network_of(n)->logits;
}
