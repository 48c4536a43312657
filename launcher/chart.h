#pragma once
// A line chart as an SVG element that stands inside a page: axes, grid, legend, no scripts.
//
// Colours are the page's CSS variables --c0 to --c7, --grid and --quiet.

#include <stddef.h>
#include <stdio.h>

enum { CHART_COLOURS = 8, CHART_SERIES = 64 };

enum chart_stroke { STROKE_SOLID, STROKE_DASHED, STROKE_DOTTED };

struct chart_series {
    char name[128];
    int colour; // from 0; they repeat after CHART_COLOURS
    enum chart_stroke stroke;
    double *x, *y; // owned by the chart
    size_t count, capacity;
};

struct chart {
    const char *title, *x_label; // borrowed
    const char *unit;            // "%" or "", behind every number of the y axis; borrowed
    struct chart_series series[CHART_SERIES];
    size_t count;
};

// A new, empty series, or NULL when there are CHART_SERIES already.
struct chart_series *chart_add(struct chart *c, int colour, enum chart_stroke stroke,
                               const char *name);
// Appends a point; one that is not finite, or that there is no memory for, is left out.
void chart_point(struct chart_series *s, double x, double y);
// Writes the element; nothing when no series has a point.
void chart_write(FILE *out, const struct chart *c);
void chart_free(struct chart *c);

// `text` with what HTML would take for markup written as it wants it.
void html_text(FILE *out, const char *text);
