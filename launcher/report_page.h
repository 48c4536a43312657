#pragma once
// The page of `retort report`: HTML with its style and its curves inside, and no script.

#include <stdio.h>

enum { REPORT_RUNS_MAX = 32 };

// Writes the page of `count` run folders. RETORT_INPUT with one line when one is none.
int report_page(FILE *out, const char *const *folders, int count);
