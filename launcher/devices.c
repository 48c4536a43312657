// retort devices: what this machine offers.

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "launcher/commands.h"
#include "launcher/machine.h"
#include "launcher/options.h"

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
    return RETORT_OK;
}
