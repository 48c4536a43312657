#include "worker/device.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe.h"
#include "models/cuda_libraries.h"
#include "models/plugin.h"

// False, and the reason in out->why, when there is no plug-in.
static bool read_report(struct plugin_report *out, const char *device)
{
    void (*report)(struct plugin_report *);
    char why[PLUGIN_WHY];
    memset(out, 0, sizeof *out);
    if (plugin_find(&report, device, ENGINE_PLUGIN_REPORT, why)) {
        report(out);
        return true;
    }
    (void)snprintf(out->why, sizeof out->why, "%.*s", (int)sizeof out->why - 1, why);
    return false;
}

const char *device_choose(const char *asked)
{
    struct plugin_report report;
    if (strcmp(asked, "auto") != 0)
        return asked;
    read_report(&report, "cuda");
    for (int i = 0; i < report.count; i++)
        if (!report.gpus[i].why[0])
            return "cuda";
    return "cpu";
}

int64_t device_precision(const char *device, int64_t trained)
{
    if (plugin_is(device))
        return trained == PRECISION_AUTO || trained == PRECISION_F64 ? PRECISION_F32 : trained;
    return precision_on(device, trained == PRECISION_BF16 ? PRECISION_BF16 : PRECISION_AUTO);
}

const char *device_precision_name(const struct engine *e, int64_t precision)
{
    if (precision == PRECISION_BF16)
        return "bf16";
    if (precision == PRECISION_TF32)
        return "tf32";
    if (precision == PRECISION_FP16)
        return "fp16";
    return engine_real(e) == REAL_F64 ? "f64" : "f32";
}

// Where each library was found that is open, and the driver's.
static json_t *files_of_libraries(void)
{
    static const char DRIVER[] = "libcuda.so.1";
    char path[PATH_CAPACITY];
    json_t *files = json_array();
    for (int i = 0; i <= CUDA_LIBRARIES; i++)
        if (cuda_library_path(path, i < CUDA_LIBRARIES ? cuda_library_names[i] : DRIVER))
            json_array_append_new(files, json_string(path));
    return files;
}

int device_print(const char *device)
{
    struct plugin_report report;
    json_t *gpus = json_array();
    if (!plugin_is(device))
        return FAIL(RETORT_USAGE, "device %s has no plug-in to ask", device);
    read_report(&report, device);
    for (int i = 0; i < report.count; i++) {
        const struct gpu_report *g = &report.gpus[i];
        json_array_append_new(gpus, json_pack("{s:s,s:i,s:i,s:I,s:I,s:s,s:s,s:s}", "name", g->name,
                                              "major", g->major, "minor", g->minor, "memory_bytes",
                                              (json_int_t)g->memory_bytes, "free_bytes",
                                              (json_int_t)g->free_bytes, "pci", g->pci, "near",
                                              g->near, "why", g->why));
    }
    json_t *j =
        json_pack("{s:s,s:o,s:s,s:s,s:o}", "libraries", report.libraries, "files",
                  files_of_libraries(), "driver", report.driver, "why", report.why, "gpus", gpus);
    json_dumpf(j, stdout, JSON_COMPACT);
    (void)fputc('\n', stdout);
    json_decref(j);
    return fflush(stdout) == 0 ? RETORT_OK : FAIL(RETORT_WRITE, "cannot write to standard output");
}

// ---- between ranks

static int add(void *context, void *to, const void *from, size_t count, enum real_type type,
               struct CUstream_st *stream)
{
    return engine_add_on(context, stream, to, from, count, type);
}

static void *alloc(void *context, size_t bytes)
{
    return engine_alloc(context, bytes);
}

static void release(void *context, void *p)
{
    engine_free(context, p);
}

int device_connect(struct device_comm **out, struct comm *comm, struct engine *e,
                   const char *device, double timeout_s)
{
    device_comm_open_function *open = NULL;
    char why[PLUGIN_WHY];
    int rc = RETORT_OK;
    const struct device_needs needs = {.context = e,
                                       .add = add,
                                       .alloc = alloc,
                                       .free = release,
                                       .stream = engine_stream(e),
                                       .timeout_s = timeout_s};
    *out = NULL;
    if (!needs.stream) // the host's memory: of all ranks, which have one kind of device
        return RETORT_OK;
    if (!plugin_find(&open, device, DEVICE_COMM_OPEN, why))
        rc = FAIL(RETORT_USAGE, "device %s: %s", device, why);
    TRY(comm_agree(comm, rc));
    CHECK(open); // as agreed
    TRY(open(out, comm, &needs));
    comm_attach_device(comm, *out);
fail:
    return rc;
}

void device_disconnect(struct device_comm **p, struct comm *comm)
{
    if (!*p)
        return;
    comm_attach_device(comm, NULL);
    device_comm_destroy(p);
}
