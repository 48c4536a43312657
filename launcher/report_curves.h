#pragma once
// The charts of a report: for each stage loss and top-1 over the epochs, learning rate and speed.

#include <jansson.h>
#include <stdio.h>

struct report_run {
    const char *name; // borrowed
    json_t *facts;    // owned: run_facts
    json_t *lines;    // owned: run_metrics
};

void report_curves(FILE *out, const struct report_run *runs, int count);
