#include "launcher/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { ROWS_MAX = 32, FIRST_ID = 1000, HELP_COLUMN = 24, NAME_CAPACITY = 128 };

static void print_help(const struct command_options *c)
{
    printf("retort %s %s%s[options]\n\n%s\n\n", c->command, c->words, *c->words ? " " : "",
           c->about);
    for (size_t i = 0; i < c->row_count; i++) {
        const struct option_row *row = &c->rows[i];
        char name[NAME_CAPACITY];
        snprintf(name, sizeof name, "--%s%s%s", row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        if (strlen(name) < HELP_COLUMN - 2) // two spaces before it, one behind
            printf("  %-*s%s\n", HELP_COLUMN - 2, name, row->help);
        else
            printf("  %s\n%*s%s\n", name, HELP_COLUMN, "", row->help);
    }
    printf("  %-*sthis text\n", HELP_COLUMN - 2, "--help");
}

static int set_count(const struct command_options *c, const struct option_row *row,
                     const char *text)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < row->low || value > row->high)
        return FAIL(RETORT_USAGE, "%s: --%s %s: expected a whole number from %d to %d", c->command,
                    row->name, text, row->low, row->high);
    *(int *)row->target = (int)value;
    return RETORT_OK;
}

// True when `text` is one of the words of "a|b|c".
static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *word = choices; length > 0; word++) {
        size_t word_length = strcspn(word, "|");
        if (word_length == length && memcmp(word, text, length) == 0)
            return true;
        word += word_length;
        if (!*word)
            break;
    }
    return false;
}

static int set_value(const struct command_options *c, const struct option_row *row,
                     const char *text)
{
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->target = true;
        return RETORT_OK;
    case OPTION_COUNT:
        return set_count(c, row, text);
    case OPTION_DEVICE:
        if (strcmp(text, "softgpu") == 0)
            break;
        // fall through
    case OPTION_CHOICE:
        if (!is_choice(row->value, text))
            return FAIL(RETORT_USAGE, "%s: --%s %s: expected %s", c->command, row->name, text,
                        row->value);
        break;
    case OPTION_LIST: {
        struct text_list *list = row->target;
        if (list->count == OPTION_LIST_CAPACITY)
            return FAIL(RETORT_USAGE, "%s: --%s is given more than %d times", c->command, row->name,
                        OPTION_LIST_CAPACITY);
        list->items[list->count++] = text;
        return RETORT_OK;
    }
    case OPTION_TEXT:
        if (!*text)
            return FAIL(RETORT_USAGE, "%s: --%s wants a value that is not empty", c->command,
                        row->name);
        break;
    }
    *(const char **)row->target = text;
    return RETORT_OK;
}

static int check_words(const struct command_options *c, int argc)
{
    int words = argc - optind;
    if (words < c->words_low)
        return FAIL(RETORT_USAGE, "%s: %s is missing; see \"retort %s --help\"", c->command,
                    c->words, c->command);
    if (words > c->words_high)
        return FAIL(RETORT_USAGE, "%s: a word too many; see \"retort %s --help\"", c->command,
                    c->command);
    return RETORT_OK;
}

int options_parse(const struct command_options *c, int argc, char **argv, int *first, bool *helped)
{
    struct option longs[ROWS_MAX + 2] = {0};
    int help_id = FIRST_ID + (int)c->row_count;
    CHECK(c->row_count <= ROWS_MAX);
    for (size_t i = 0; i < c->row_count; i++)
        longs[i] = (struct option){c->rows[i].name,
                                   c->rows[i].kind == OPTION_FLAG ? no_argument : required_argument,
                                   NULL, FIRST_ID + (int)i};
    longs[c->row_count] = (struct option){"help", no_argument, NULL, help_id};
    *helped = false;
    optind = 0; // start anew
    opterr = 0;
    for (int id; (id = getopt_long(argc, argv, ":", longs, NULL)) != -1;) {
        if (id == help_id) {
            print_help(c);
            *helped = true;
            return RETORT_OK;
        }
        if (id == ':')
            return FAIL(RETORT_USAGE, "%s: %s wants a value", c->command, argv[optind - 1]);
        if (id < FIRST_ID)
            return FAIL(RETORT_USAGE, "%s: unknown option %s; see \"retort %s --help\"", c->command,
                        argv[optind - 1], c->command);
        int rc = set_value(c, &c->rows[id - FIRST_ID], optarg);
        if (rc != RETORT_OK)
            return rc;
    }
    *first = optind;
    return check_words(c, argc);
}
