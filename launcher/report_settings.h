#pragma once
// Where the recipes of several runs differ, as a table of a report.

#include "launcher/report_curves.h"

// Nothing when they do not.
void report_settings(FILE *out, const struct report_run *runs, int count);
