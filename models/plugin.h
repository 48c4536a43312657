#pragma once
// Engines that are plug-ins: libraries opened at run time, so that one program runs with and
// without what they need.
//
// A plug-in lies beside the program, or in the folder that RETORT_PLUGINS names. What it needs of
// base (messages, their prefix) and of comm is the program's own: such programs export it
// (ENABLE_EXPORTS).

#include "models/engine.h"

// ---- what each plug-in defines
int retort_engine_open(struct engine **out, const struct engine_options *options);
#define ENGINE_PLUGIN_OPEN "retort_engine_open"

// What the plug-in sees of this machine's GPUs. It looks how much of their memory is free, and
// leaves nothing of its own there: to be asked before an engine is opened.
enum { REPORTED_GPUS = 64, REPORT_TEXT = 256, PLUGIN_WHY = 1024 };
struct gpu_report {
    char name[REPORT_TEXT];
    int major, minor;                // compute capability
    size_t memory_bytes, free_bytes; // free: 0 where nobody looked
    char pci[REPORT_TEXT];           // "0000:3b:00.0"
    char near[REPORT_TEXT];          // the cores near it: "0-31,64-95"; "" when nobody knows
    char why[REPORT_TEXT];           // it cannot be used; "": it can
};
struct plugin_report {
    char libraries[REPORT_TEXT]; // "CUDA 13.0, cuDNN 9.19.0, NCCL 2.28.9"
    char driver[REPORT_TEXT];    // "for CUDA 13.0"; "" without one
    char why[PLUGIN_WHY];        // there is no GPU; "" when there are some
    int count;
    struct gpu_report gpus[REPORTED_GPUS];
};
void retort_engine_report(struct plugin_report *out);
#define ENGINE_PLUGIN_REPORT "retort_engine_report"

// ---- for programs
bool plugin_is(const char *device); // whether the device's engine is a plug-in
// Opens the device's plug-in and looks up a function, into the function pointer at `out`. When it
// can't be, `why` is the reason and nothing is printed. The library stays open until the program
// ends.
bool plugin_find(void *out, const char *device, const char *name, char why[PLUGIN_WHY]);
// Opens the device's engine; RETORT_USAGE with one line when its plug-in can't be loaded.
int plugin_open(struct engine **out, const struct engine_options *options);
