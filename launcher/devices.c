// retort devices: what this machine offers.

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "launcher/commands.h"
#include "launcher/gpus.h"
#include "launcher/machine.h"
#include "launcher/options.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void say_gpu(const json_t *gpu)
{
    char memory[32], left[32] = "";
    const char *why = text_of(gpu, "why"), *pci = text_of(gpu, "pci"), *near = text_of(gpu, "near");
    const json_int_t free_bytes = json_integer_value(json_object_get(gpu, "free_bytes"));
    format_bytes((double)json_integer_value(json_object_get(gpu, "memory_bytes")), memory,
                 sizeof memory);
    if (free_bytes > 0)
        format_bytes((double)free_bytes, left, sizeof left);
    log_info("gpu        %s, %s%s%s%s, compute capability %d.%d%s%s%s%s%s%s", text_of(gpu, "name"),
             memory, left[0] ? " (" : "", left, left[0] ? " free)" : "",
             (int)json_integer_value(json_object_get(gpu, "major")),
             (int)json_integer_value(json_object_get(gpu, "minor")), pci[0] ? ", PCI " : "", pci,
             near[0] ? ", near cores " : "", near, why[0] ? "; cannot be used: " : "", why);
}

static void say_gpus(void)
{
    json_t *report = gpus_ask("cuda"), *gpu, *file;
    const char *why = report ? text_of(report, "why") : "retort-worker does not say";
    const char *driver = text_of(report, "driver"), *libraries = text_of(report, "libraries");
    size_t i;
    if (why[0])
        log_info("gpu        none: %s", why);
    json_array_foreach(json_object_get(report, "gpus"), i, gpu) say_gpu(gpu);
    if (driver[0])
        log_info("driver     %s", driver);
    if (libraries[0])
        log_info("libraries  %s", libraries);
    json_array_foreach(json_object_get(report, "files"), i, file)
        log_info("           %s", json_string_value(file));
    json_decref(report);
}

int devices_main(int argc, char **argv)
{
    static const char *const flags[] = {"avx2",        "fma",      "avx512f",  "avx512_bf16",
                                        "avx512_vnni", "amx_bf16", "amx_tile", "asimd",
                                        "sve",         "bf16"};
    const struct command_options options = {
        "devices", "", "What this machine offers to a run.", NULL, 0, 0, 0};
    char processor[256], features[256], memory[32];
    bool helped;
    int first, rc = options_parse(&options, argc, argv, &first, &helped);
    if (rc != RETORT_OK || helped)
        return rc;
    machine_processor(processor, sizeof processor);
    machine_features(flags, sizeof flags / sizeof flags[0], features, sizeof features);
    format_bytes((double)memory_bytes(), memory, sizeof memory);
    log_info("cpu        %s", processor);
    log_info("cores      %d", machine_cores());
    log_info("features   %s", features[0] ? features : "none that matter");
    log_info("memory     %s", memory);
    say_gpus();
    return RETORT_OK;
}
