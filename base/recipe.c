#include "base/recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe_option.h"

enum { RECIPE_LIMIT_BYTES = 1 << 20 };

void recipe_defaults(struct recipe *r)
{
    struct option_ref o;
    char why[OPTION_WHY];
    memset(r, 0, sizeof *r);
    // An empty default of a path is a text, as if quoted.
    for (size_t i = 0; option_at(i, &o); i++)
        CHECK(option_parse(&o, r, o.row->fallback, o.row->type == OPTION_PATH, why));
}

int recipe_load(struct recipe *r, const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    recipe_defaults(r);
    int rc = file_read(path, RECIPE_LIMIT_BYTES, &text, &bytes);
    if (rc != RETORT_OK)
        return rc;
    rc = recipe_read_yaml(r, path, text, bytes);
    free(text);
    return rc;
}

int recipe_from_text(struct recipe *r, const char *name, const char *text)
{
    recipe_defaults(r);
    return recipe_read_yaml(r, name, text, strlen(text));
}

int recipe_set(struct recipe *r, const char *assignment)
{
    char path[2 * OPTION_PATH_CAPACITY], why[OPTION_WHY];
    struct option_ref o;
    const char *equals = strchr(assignment, '=');
    if (!equals)
        return FAIL(RETORT_USAGE, "--set: %.60s has no \"=\"; write key=value, as in run.seed=2",
                    assignment);
    size_t length = (size_t)(equals - assignment);
    if (length >= sizeof path / 2)
        length = sizeof path / 2 - 1;
    snprintf(path, sizeof path, "%.*s", (int)length, assignment);
    if (!option_find(path, &o)) {
        if (option_is_section(path, &o))
            return FAIL(RETORT_USAGE, "--set: %s is a section; name a key below it, such as %s",
                        path, o.path);
        return option_refuse_unknown("--set", path);
    }
    // On the command line "teacher.from=" empties a path.
    bool empty_path = o.row->type == OPTION_PATH && equals[1] == '\0';
    if (!option_parse(&o, r, equals + 1, empty_path, why))
        return FAIL(RETORT_USAGE, "--set: %s: %s", path, why);
    return RETORT_OK;
}

int recipe_set_value(struct recipe *r, const char *name, const char *path, const char *text)
{
    char why[OPTION_WHY];
    struct option_ref o;
    CHECK(option_find(path, &o));
    if (!option_parse(&o, r, text, false, why))
        return FAIL(RETORT_USAGE, "%s: %s: %s", name, path, why);
    return RETORT_OK;
}

void recipe_get(const struct recipe *r, const char *path, char *out, size_t out_bytes)
{
    struct option_ref o;
    char text[OPTION_TEXT_CAPACITY];
    CHECK(option_find(path, &o));
    option_text(&o, r, text);
    CHECK(strlen(text) < out_bytes);
    memcpy(out, text, strlen(text) + 1);
}

// Opens the sections of `path` that `before` was not in already.
static void print_sections(FILE *out, const char *before, const char *path, int *depth)
{
    *depth = 0;
    bool same = true;
    for (const char *word = path, *dot; (dot = strchr(word, '.')); word = dot + 1) {
        size_t upto = (size_t)(dot - path) + 1;
        same = same && strncmp(before, path, upto) == 0;
        if (!same)
            fprintf(out, "%*s%.*s:\n", 2 * *depth, "", (int)(dot - word), word);
        (*depth)++;
    }
}

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

int recipe_print(const struct recipe *r, FILE *out)
{
    struct option_ref o;
    char before[OPTION_PATH_CAPACITY] = "", text[OPTION_TEXT_CAPACITY];
    int depth;
    for (size_t i = 0; option_at(i, &o); i++) {
        print_sections(out, before, o.path, &depth);
        fprintf(out, "%*s%s: ", 2 * depth, "", strrchr(o.path, '.') + 1);
        option_text(&o, r, text);
        if (o.row->type == OPTION_PATH)
            print_quoted(out, text);
        else
            fputs(text, out);
        fputc('\n', out);
        memcpy(before, o.path, sizeof before);
    }
    if (fflush(out) != 0 || ferror(out))
        return FAIL(RETORT_WRITE, "cannot write the recipe: %s", strerror(errno));
    return RETORT_OK;
}

int recipe_to_text(const struct recipe *r, char **out)
{
    size_t bytes;
    *out = NULL;
    FILE *stream = open_memstream(out, &bytes);
    if (!stream)
        return FAIL(RETORT_MEMORY, "no memory to print the recipe");
    int rc = recipe_print(r, stream);
    if (fclose(stream) != 0 && rc == RETORT_OK)
        rc = FAIL(RETORT_MEMORY, "no memory to print the recipe");
    if (rc != RETORT_OK) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

void recipe_describe(FILE *out)
{
    struct option_ref o;
    char kind[OPTION_KIND];
    for (size_t i = 0; option_at(i, &o); i++) {
        option_kind(o.row, kind);
        fprintf(out, "  %-32s %s\n  %-32s %s; default: %s%s\n", o.path, o.row->help, "", kind,
                o.row->fallback[0] ? o.row->fallback : "none",
                o.row->results ? "" : "; free to change on resume");
    }
}

const struct network_recipe *recipe_network(const struct recipe *r, enum stage stage)
{
    switch (stage) {
    case STAGE_TEACHER:
        return &r->teacher;
    case STAGE_BASELINE:
    case STAGE_STUDENT:
        return &r->student;
    default:
        return NULL;
    }
}
