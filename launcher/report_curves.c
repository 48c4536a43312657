#include "launcher/report_curves.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "launcher/chart.h"

static const char *const STAGES[] = {"teacher", "baseline", "student"};
enum { STAGES_COUNT = sizeof STAGES / sizeof STAGES[0] };

// A member of metrics.jsonl's lines over the epochs.
struct curve {
    const char *event; // of the lines that have it
    const char *key;
    const char *name; // in the legend
    double scale;
    enum chart_stroke stroke;
};

static const struct curve LOSSES[] = {
    {"train", "loss", "training", 1, STROKE_DOTTED},
    {"epoch", "val_loss", "validation", 1, STROKE_SOLID},
    {"epoch", "ema_loss", "validation, EMA", 1, STROKE_DASHED},
};
static const struct curve ACCURACIES[] = {
    {"epoch", "train_top1", "training", 100, STROKE_DOTTED},
    {"epoch", "top1", "validation", 100, STROKE_SOLID},
    {"epoch", "ema_top1", "validation, EMA", 100, STROKE_DASHED},
};
static const struct curve RATES[] = {{"train", "lr", "", 1, STROKE_SOLID}};
static const struct curve SPEEDS[] = {{"train", "images_per_s", "", 1, STROKE_SOLID}};

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static bool has(const json_t *line, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(line, key));
    return value && strcmp(value, text) == 0;
}

// Steps of an epoch of a stage; lines of earlier versions do not say it, but an epoch's end does.
static double epoch_steps(const json_t *lines, const char *stage)
{
    double steps = (double)NAN;
    json_t *line;
    size_t i;
    json_array_foreach(lines, i, line)
    {
        if (!has(line, "stage", stage))
            continue;
        if (!isnan(number(line, "epoch_steps")))
            return number(line, "epoch_steps");
        if (has(line, "event", "epoch"))
            steps = number(line, "step") / (number(line, "epoch") + 1);
    }
    return steps;
}

static void add_curve(struct chart *c, const struct report_run *run, int colour, bool named,
                      const char *stage, const struct curve *curve)
{
    char name[128];
    double steps = epoch_steps(run->lines, stage);
    json_t *line;
    size_t i;
    snprintf(name, sizeof name, "%s%s%s", named ? run->name : "",
             named && curve->name[0] ? ": " : "", curve->name[0] || named ? curve->name : "");
    struct chart_series *s = chart_add(c, colour, curve->stroke, name[0] ? name : stage);
    json_array_foreach(run->lines, i, line)
    {
        if (has(line, "stage", stage) && has(line, "event", curve->event))
            chart_point(s, number(line, "step") / steps, curve->scale * number(line, curve->key));
    }
}

// One run: a colour for each curve. Several: a colour for each run, a stroke for each curve, and
// none for training, which would hide what is compared.
static void add_chart(FILE *out, const struct report_run *runs, int count, const char *stage,
                      const char *title, const char *unit, const struct curve *curves, int n)
{
    struct chart c = {.title = title, .x_label = "epoch", .unit = unit};
    for (int r = 0; r < count; r++)
        for (int i = 0; i < n; i++)
            if (count == 1 || curves[i].stroke != STROKE_DOTTED)
                add_curve(&c, &runs[r], count > 1 ? r : i, count > 1, stage, &curves[i]);
    chart_write(out, &c);
    chart_free(&c);
}

static bool has_stage(const struct report_run *runs, int count, const char *stage)
{
    json_t *line;
    size_t i;
    for (int r = 0; r < count; r++)
        json_array_foreach(runs[r].lines, i, line)
        {
            if (has(line, "stage", stage))
                return true;
        }
    return false;
}

void report_curves(FILE *out, const struct report_run *runs, int count)
{
    for (int s = 0; s < STAGES_COUNT; s++) {
        if (!has_stage(runs, count, STAGES[s]))
            continue;
        fprintf(out, "<h2>%c%s</h2>\n<div class=\"charts\">\n", STAGES[s][0] - 'a' + 'A',
                STAGES[s] + 1);
        add_chart(out, runs, count, STAGES[s], "Loss", "", LOSSES, 3);
        add_chart(out, runs, count, STAGES[s], "Top-1", " %", ACCURACIES, 3);
        add_chart(out, runs, count, STAGES[s], "Learning rate", "", RATES, 1);
        add_chart(out, runs, count, STAGES[s], "Images a second", "", SPEEDS, 1);
        fputs("</div>\n", out);
    }
}
