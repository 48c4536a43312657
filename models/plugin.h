#pragma once
// Engines that are plug-ins: libraries opened at run time, so that one program runs with and
// without what they need.
//
// A plug-in lies beside the program, or in the folder that RETORT_PLUGINS names. What it needs of
// base (messages, their prefix) is the program's own: such programs export it (ENABLE_EXPORTS).

#include "models/engine.h"

// What each plug-in defines.
int retort_engine_open(struct engine **out, const struct engine_options *options);
#define ENGINE_PLUGIN_ENTRY "retort_engine_open"

// Opens the engine of `library` ("libretort_cuda.so"); RETORT_USAGE with one line when it can't be
// loaded. The library stays open until the program ends.
int plugin_open(struct engine **out, const struct engine_options *options, const char *library);
