#include "launcher/chart.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

// In units of the view box; the page scales it.
enum { WIDTH = 560, HEIGHT = 300, LEFT = 56, RIGHT = 14, TOP = 34, BOTTOM = 40, LEGEND_ROW = 18 };
enum { TICKS = 5, DRAWN_POINTS = 300, LEGEND_LETTER = 7, LEGEND_LINE = 34 };

struct range {
    double low, high, step; // of the axis; step between two ticks
};

void html_text(FILE *out, const char *text)
{
    for (const char *c = text; *c; c++)
        switch (*c) {
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*c, out);
        }
}

struct chart_series *chart_add(struct chart *c, int colour, enum chart_stroke stroke,
                               const char *name)
{
    if (c->count == CHART_SERIES)
        return NULL;
    struct chart_series *s = &c->series[c->count++];
    *s = (struct chart_series){.colour = colour % CHART_COLOURS, .stroke = stroke};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

void chart_point(struct chart_series *s, double x, double y)
{
    if (!s || !isfinite(x) || !isfinite(y))
        return;
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 64;
        double *xs = realloc(s->x, capacity * sizeof *xs);
        if (xs)
            s->x = xs;
        double *ys = xs ? realloc(s->y, capacity * sizeof *ys) : NULL;
        if (!ys)
            return;
        s->y = ys;
        s->capacity = capacity;
    }
    s->x[s->count] = x;
    s->y[s->count++] = y;
}

void chart_free(struct chart *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->series[i].x);
        free(c->series[i].y);
    }
    c->count = 0;
}

// Ticks at 1, 2 or 5 times a power of ten.
static struct range nice_range(double low, double high)
{
    if (high <= low)
        high = low + (low != 0.0 ? fabs(low) : 1.0);
    double raw = (high - low) / TICKS, power = pow(10, floor(log10(raw))), part = raw / power;
    double step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
    return (struct range){floor(low / step) * step, ceil(high / step - 1e-9) * step, step};
}

static bool find_ranges(const struct chart *c, struct range *x, struct range *y)
{
    double x_high = 0, low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < c->count; i++)
        for (size_t p = 0; p < c->series[i].count; p++) {
            x_high = fmax(x_high, c->series[i].x[p]);
            low = fmin(low, c->series[i].y[p]);
            high = fmax(high, c->series[i].y[p]);
        }
    if (high < low)
        return false;
    *x = nice_range(0, x_high);
    *y = nice_range(low > 0 && low < 0.4 * high ? 0 : low, high);
    return true;
}

static double place_x(const struct range *r, double x)
{
    return LEFT + (x - r->low) / (r->high - r->low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct range *r, double y)
{
    return HEIGHT - BOTTOM - (y - r->low) / (r->high - r->low) * (HEIGHT - TOP - BOTTOM);
}

static int tick_count(const struct range *r)
{
    return (int)lround((r->high - r->low) / r->step);
}

static void write_axes(FILE *out, const struct chart *c, const struct range *x,
                       const struct range *y)
{
    for (int i = 0; i <= tick_count(y); i++) {
        double value = y->low + i * y->step, at = place_y(y, value);
        fprintf(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                WIDTH - RIGHT, at, at);
        fprintf(out, "<text class=\"tick\" text-anchor=\"end\" x=\"%d\" y=\"%.1f\">%.6g%s</text>\n",
                LEFT - 7, at + 4, fabs(value) < 1e-9 * y->step ? 0.0 : value, c->unit);
    }
    for (int i = 0; i <= tick_count(x); i++) {
        double value = x->low + i * x->step;
        fprintf(out,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">%.6g</text>\n",
                place_x(x, value), HEIGHT - BOTTOM + 17, value);
    }
    fprintf(out, "<text class=\"tick\" text-anchor=\"end\" x=\"%d\" y=\"%d\">", WIDTH - RIGHT,
            HEIGHT - 6);
    html_text(out, c->x_label);
    fprintf(out, "</text>\n<text class=\"title\" x=\"%d\" y=\"18\">", LEFT - 42);
    html_text(out, c->title);
    fputs("</text>\n", out);
}

static void write_stroke(FILE *out, const struct chart_series *s)
{
    static const char *const dashes[] = {"", " stroke-dasharray=\"7 4\"",
                                         " stroke-dasharray=\"1.5 4\""};
    fprintf(out, " fill=\"none\" stroke=\"var(--c%d)\"%s", s->colour, dashes[s->stroke]);
}

// Neighbours are averaged where there are more points than can be told apart.
static void write_line(FILE *out, const struct chart_series *s, const struct range *x,
                       const struct range *y)
{
    size_t each = (s->count + DRAWN_POINTS - 1) / DRAWN_POINTS;
    fputs("<polyline class=\"curve\"", out);
    write_stroke(out, s);
    fputs(" points=\"", out);
    for (size_t p = 0; p < s->count; p += each) {
        size_t end = p + each < s->count ? p + each : s->count;
        double mean_x = 0, mean_y = 0;
        for (size_t i = p; i < end; i++) {
            mean_x += s->x[i] / (double)(end - p);
            mean_y += s->y[i] / (double)(end - p);
        }
        fprintf(out, "%s%.1f,%.1f", p ? " " : "", place_x(x, mean_x), place_y(y, mean_y));
    }
    fputs("\"/>\n", out);
}

// Points that are few are marked, and say their value under the mouse.
static void write_points(FILE *out, const struct chart *c, const struct chart_series *s,
                         const struct range *x, const struct range *y)
{
    enum { MARKED = 40 };
    for (size_t p = 0; s->count <= MARKED && p < s->count; p++) {
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"var(--c%d)\"><title>",
                place_x(x, s->x[p]), place_y(y, s->y[p]), s->colour);
        html_text(out, s->name);
        fprintf(out, ": %.4g%s at %.4g</title></circle>\n", s->y[p], c->unit, s->x[p]);
    }
}

static int letters(const char *text)
{
    int count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80; // not the middle of a UTF-8 letter
    return count;
}

// In rows under the chart; returns the height they take. With no `out` it is only measured.
static int write_legend(FILE *out, const struct chart *c)
{
    int x = LEFT, row = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct chart_series *s = &c->series[i];
        int width = LEGEND_LINE + LEGEND_LETTER * letters(s->name) + 14;
        if (s->count == 0)
            continue;
        if (x > LEFT && x + width > WIDTH - RIGHT) {
            x = LEFT;
            row++;
        }
        int y = HEIGHT + LEGEND_ROW * row + 8;
        if (out) {
            fprintf(out, "<line class=\"curve\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"", x, x + 26,
                    y, y);
            write_stroke(out, s);
            fprintf(out, "/><text class=\"legend\" x=\"%d\" y=\"%d\">", x + LEGEND_LINE, y + 4);
            html_text(out, s->name);
            fputs("</text>\n", out);
        }
        x += width;
    }
    return LEGEND_ROW * (row + 1) + 4;
}

void chart_write(FILE *out, const struct chart *c)
{
    struct range x, y;
    if (!find_ranges(c, &x, &y))
        return;
    fprintf(out, "<svg role=\"img\" viewBox=\"0 0 %d %d\" aria-label=\"", WIDTH,
            HEIGHT + write_legend(NULL, c));
    html_text(out, c->title);
    fputs("\">\n", out);
    write_axes(out, c, &x, &y);
    for (size_t i = 0; i < c->count; i++)
        if (c->series[i].count > 0) {
            write_line(out, &c->series[i], &x, &y);
            write_points(out, c, &c->series[i], &x, &y);
        }
    write_legend(out, c);
    fputs("</svg>\n", out);
}
