#include "launcher/run_array.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/recipe.h"
#include "launcher/run_facts.h"
#include "launcher/sweep.h"

static const struct {
    const char *key, *name;
} COLUMNS[] = {
    {"teacher", "teacher"},  {"teacher_ema", "EMA"}, {"baseline", "baseline"},
    {"baseline_ema", "EMA"}, {"student", "student"}, {"student_ema", "EMA"},
};
enum { COLUMN_COUNT = sizeof COLUMNS / sizeof COLUMNS[0], WIDTH = 9, LINE = 512 };

static void add_text(char line[LINE], const char *text)
{
    size_t used = strlen(line);
    snprintf(line + used, LINE - used, "%*s", WIDTH, text);
}

static void print_row(const char *folder, const char *setting, int name_width)
{
    char line[LINE], cell[32], recipe[PATH_CAPACITY];
    json_t *facts = NULL;
    const json_t *results;
    snprintf(line, sizeof line, "%-*s", name_width, setting);
    if (path_join(recipe, folder, "recipe.yaml") == RETORT_OK && file_exists(recipe))
        (void)run_facts(&facts, folder); // one that was refused has none, and has said why
    results = json_object_get(facts, "results");
    for (int i = 0; i < COLUMN_COUNT; i++) {
        const json_t *top1 = json_object_get(json_object_get(results, COLUMNS[i].key), "top1");
        snprintf(cell, sizeof cell, "%.2f", 100 * json_number_value(top1));
        add_text(line, top1 ? cell : "-");
    }
    log_info("%s  %s", line, json_is_true(json_object_get(facts, "done")) ? "done" : "not done");
    json_decref(facts);
}

static void print_table(const struct sweep *sweep, const char *parent)
{
    char line[LINE], folder[PATH_CAPACITY];
    int name_width = 0;
    for (int i = 0; i < sweep->count; i++)
        if ((int)strlen(sweep->items[i]) > name_width)
            name_width = (int)strlen(sweep->items[i]);
    snprintf(line, sizeof line, "%-*s", name_width, "top-1 %");
    for (int i = 0; i < COLUMN_COUNT; i++)
        add_text(line, COLUMNS[i].name);
    log_info(" ");
    log_info("%s", line);
    for (int i = 0; i < sweep->count; i++)
        if (sweep_folder(folder, parent, sweep->items[i]) == RETORT_OK)
            print_row(folder, sweep->items[i], name_width);
    log_info("\"retort report %s/*\" draws their curves", parent);
}

static bool ends_all(int code)
{
    return code == RETORT_STOPPED || code > 128 || code == RETORT_USAGE;
}

int run_array(const struct run_arguments *a, const char *parent)
{
    static struct recipe recipe; // large
    struct sweep sweep;
    struct run_arguments one = *a;
    char folder[PATH_CAPACITY];
    int first_code = RETORT_OK, rc = sweep_parse(&sweep, "run", a->array);
    if (rc != RETORT_OK)
        return rc;
    rc = recipe_load(&recipe, a->recipe); // what no value can mend is said once
    if (rc != RETORT_OK)
        return rc;
    if (one.sets.count == OPTION_LIST_CAPACITY)
        return FAIL(RETORT_USAGE, "run: --array and %d times --set are too many", one.sets.count);
    int sets = one.sets.count++;
    for (int i = 0; i < sweep.count && !ends_all(rc); i++) {
        one.sets.items[sets] = sweep.items[i];
        rc = sweep_folder(folder, parent, sweep.items[i]);
        if (rc == RETORT_OK)
            rc = run_one(&one, folder, !a->fresh);
        first_code = first_code == RETORT_OK || ends_all(rc) ? rc : first_code;
    }
    if (!a->dry_run && !a->print_recipe)
        print_table(&sweep, parent);
    return first_code;
}
