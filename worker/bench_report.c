// What `retort bench` prints.

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "worker/bench.h"

enum group { GROUP_COMPUTE, GROUP_COMMUNICATION, GROUP_DATA, GROUP_OPTIMIZER, GROUP_OTHER, GROUPS };
static const char *const GROUP_NAMES[GROUPS] = {"compute", "communication that nothing hides",
                                                "data", "optimizer", "other"};
static const struct {
    const char *name;
    enum group group;
} PARTS[BENCH_PARTS] = {
    {"augment", GROUP_DATA},
    {"forward", GROUP_COMPUTE},
    {"loss", GROUP_COMPUTE},
    {"backward", GROUP_COMPUTE},
    {"tree", GROUP_COMPUTE},
    {"statistics", GROUP_COMMUNICATION},
    {"all-reduce", GROUP_COMMUNICATION},
    {"update", GROUP_OPTIMIZER},
    {"set_weights", GROUP_OPTIMIZER},
};

static double group_share(const struct bench_result *r, enum group group)
{
    double own = 0.0, all = 0.0;
    for (int i = 0; i < BENCH_PARTS; i++) {
        all += r->share[i];
        own += PARTS[i].group == group ? r->share[i] : 0.0;
    }
    return group == GROUP_OTHER ? fmax(1.0 - all, 0.0) : own;
}

// A step's parts follow one another: without pictures to prepare it is that much shorter.
static double bare_images_per_s(const struct bench_result *r)
{
    return r->images_per_s / (1.0 - r->share[MICROBATCH_AUGMENT]);
}

static void print_json(const struct bench_result *r, const struct bench_options *o)
{
    json_t *shares = json_object(), *windows = json_array();
    for (int i = 0; i < BENCH_PARTS; i++)
        json_object_set_new(shares, PARTS[i].name, json_real(r->share[i]));
    for (int i = 0; i < BENCH_WINDOWS; i++)
        json_array_append_new(windows, json_real(r->windows[i]));
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:o, s:o}",
        "arch", o->arch, "device", o->device, "processor", r->processor, "precision", r->precision,
        "ranks", r->ranks, "threads", o->threads, "batch", o->batch, "microbatches",
        o->microbatches, "images_per_s", r->images_per_s, "bare_images_per_s", bare_images_per_s(r),
        "spread", r->spread, "step_ms", r->step_ms, "gflops_per_s",
        r->images_per_s * r->flops_per_image * 1e-9, "network_bytes", (json_int_t)r->network_bytes,
        "peak_memory_bytes", (json_int_t)r->peak_memory_bytes, "share", shares, "windows", windows);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    (void)fputc('\n', stdout);
    json_decref(j);
}

// "  data 4.1 % (augment 4.1)"
static void print_group(const struct bench_result *r, enum group group)
{
    const char *before = " (";
    printf("  %s %.1f %%", GROUP_NAMES[group], 100.0 * group_share(r, group));
    for (int i = 0; i < BENCH_PARTS; i++)
        if (PARTS[i].group == group) {
            printf("%s%s %.1f", before, PARTS[i].name, 100.0 * r->share[i]);
            before = ", ";
        }
    printf("%s\n", group == GROUP_OTHER ? "" : ")");
}

static void print_text(const struct bench_result *r, const struct bench_options *o)
{
    char peak[32], network[32];
    format_bytes((double)r->peak_memory_bytes, peak, sizeof peak);
    format_bytes((double)r->network_bytes, network, sizeof network);
    printf("%s, batch %d in %d micro-batches, %d rank%s x %d thread%s\n%s\n", o->arch, o->batch,
           o->microbatches, r->ranks, r->ranks == 1 ? "" : "s", o->threads,
           o->threads == 1 ? "" : "s", r->processor);
    printf(
        "%.0f images/s (median of %d windows, spread %.1f %%), %.0f bare (pictures not augmented), "
        "%.2f ms a step, %.0f GFLOP/s\n",
        r->images_per_s, (int)BENCH_WINDOWS, 100.0 * r->spread, bare_images_per_s(r), r->step_ms,
        r->images_per_s * r->flops_per_image * 1e-9);
    printf("time of rank 0:\n");
    for (enum group group = 0; group < GROUPS; group++)
        print_group(r, group);
    printf("memory of a rank: network %s, whole process %s at the most\n", network, peak);
}

void bench_print(const struct bench_result *r, const struct bench_options *options, bool json)
{
    if (json)
        print_json(r, options);
    else
        print_text(r, options);
    (void)fflush(stdout);
}
