#pragma once
// The libraries that the CUDA engine needs and that nobody ships with it: cuDNN and NCCL, from a
// toolkit or from Python's wheels. The loader knows some folders (LD_LIBRARY_PATH, the system's);
// a library that is in none of these is opened here by its path, and the engine, opened after it,
// takes what is there already.
//
// In this order: RETORT_CUDA_PATH (folders with colons between them: of libraries, of a toolkit, or
// Python's site-packages), the loader, VIRTUAL_ENV, CUDA_HOME, /usr/local/cuda.

#include <stdbool.h>

#include "base/file.h"

enum { CUDA_LIBRARIES = 2, CUDA_LIBRARIES_WHY = 1024 };
extern const char *const cuda_library_names[CUDA_LIBRARIES];

// Opens what is in the folders of RETORT_CUDA_PATH, which somebody has chosen; it may be nothing.
void cuda_libraries_open_named(void);
// Opens each library that is not open yet, until the program ends. False when one is not to be had:
// `why` names it, with the places where it was looked for.
bool cuda_libraries_open(char why[CUDA_LIBRARIES_WHY]);
// Where an open one was found; false when it is not open.
bool cuda_library_path(char path[PATH_CAPACITY], const char *name);
