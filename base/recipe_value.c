// Values of the recipe: text to value and back, by the option's type.

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe_option.h"

static const char *const stage_names[STAGE_COUNT] = {"teacher", "logits", "baseline", "student"};
static const char STAGE_WORDS[] = "teacher, logits, baseline, student";

const char *stage_name(enum stage stage)
{
    CHECK((unsigned)stage < STAGE_COUNT);
    return stage_names[stage];
}

static int stage_find(const char *name, size_t length)
{
    for (int s = 0; s < STAGE_COUNT; s++)
        if (strlen(stage_names[s]) == length && memcmp(stage_names[s], name, length) == 0)
            return s;
    return -1;
}

int stage_parse(const char *name, enum stage *out)
{
    int found = stage_find(name, strlen(name));
    if (found < 0)
        return FAIL(RETORT_USAGE, "unknown stage %.60s; one of %s", name, STAGE_WORDS);
    *out = (enum stage)found;
    return RETORT_OK;
}

// The length of the index-th word of "a|b|c", and its start; 0 past the last.
static size_t word_at(const char *words, size_t index, const char **start)
{
    for (; index > 0; index--) {
        words = strchr(words, '|');
        if (!words)
            return 0;
        words++;
    }
    *start = words;
    return strcspn(words, "|");
}

// A number's bounds in words: " of 1 or more", " above 0", " from 0 to 1".
static void range_text(const struct option *row, bool with_high, char *out, size_t out_bytes)
{
    if (with_high && row->high_open)
        snprintf(out, out_bytes, " %s %.17g and below %.17g", row->low_open ? "above" : "from",
                 row->low, row->high);
    else if (with_high && row->low_open)
        snprintf(out, out_bytes, " above %.17g, at most %.17g", row->low, row->high);
    else if (with_high)
        snprintf(out, out_bytes, " from %.17g to %.17g", row->low, row->high);
    else if (row->low_open)
        snprintf(out, out_bytes, " above %.17g", row->low);
    else
        snprintf(out, out_bytes, " of %.17g or more", row->low);
}

static void kind_text(const struct option *row, bool with_high, char out[OPTION_KIND])
{
    char range[128];
    const char *or_auto = row->automatic ? ", or auto" : "";
    switch (row->type) {
    case OPTION_INT:
    case OPTION_REAL:
        range_text(row, with_high, range, sizeof range);
        snprintf(out, OPTION_KIND, "a %s%s%s", row->type == OPTION_INT ? "whole number" : "number",
                 range, or_auto);
        break;
    case OPTION_BOOL:
        snprintf(out, OPTION_KIND, "true or false");
        break;
    case OPTION_NAME:
        snprintf(out, OPTION_KIND, "a name of letters, digits, '_', '-' and '/', shorter than %d",
                 RECIPE_WORD);
        break;
    case OPTION_PATH:
        snprintf(out, OPTION_KIND, "a path in UTF-8, shorter than %d bytes", PATH_CAPACITY);
        break;
    case OPTION_STAGES:
        snprintf(out, OPTION_KIND, "a list of %s", STAGE_WORDS);
        break;
    case OPTION_WORD: {
        size_t used =
            (size_t)snprintf(out, OPTION_KIND, "%s", strchr(row->words, '|') ? "one of " : "");
        const char *word = NULL;
        for (size_t i = 0, n; (n = word_at(row->words, i, &word)) > 0 && used < OPTION_KIND; i++)
            used += (size_t)snprintf(out + used, OPTION_KIND - used, "%s%.*s", i ? ", " : "",
                                     (int)n, word);
        break;
    }
    }
}

void option_kind(const struct option *row, char out[OPTION_KIND])
{
    // The bound on counts is far away and of no interest until it is passed.
    kind_text(row, isfinite(row->high) && row->type == OPTION_REAL, out);
}

static bool out_of_range(const struct option *row, const char *text, bool high, char *why)
{
    char kind[OPTION_KIND];
    kind_text(row, high || (isfinite(row->high) && row->type == OPTION_REAL), kind);
    snprintf(why, OPTION_WHY, "%.60s is out of range; %s", text, kind);
    return false;
}

static bool not_of_kind(const struct option *row, const char *text, bool quoted, char *why)
{
    char kind[OPTION_KIND];
    option_kind(row, kind);
    const char *quote = quoted ? "\"" : "";
    if (text[0] == '\0' && !quoted)
        snprintf(why, OPTION_WHY, "has no value; %s", kind);
    else
        snprintf(why, OPTION_WHY, "%s%.60s%s is not %s", quote, text, quote, kind);
    return false;
}

static size_t digits(const char *text)
{
    return strspn(text, "0123456789");
}

static bool is_whole_number(const char *text)
{
    text += *text == '-' || *text == '+';
    size_t n = digits(text);
    return n > 0 && text[n] == '\0';
}

// strtod takes more than a recipe should: hexadecimal, nan, inf, leading blanks.
static bool is_number(const char *text)
{
    text += *text == '-' || *text == '+';
    size_t whole = digits(text), fraction = 0;
    text += whole;
    if (*text == '.') {
        fraction = digits(text + 1);
        text += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '-' || *text == '+';
        size_t n = digits(text);
        if (n == 0)
            return false;
        text += n;
    }
    return *text == '\0';
}

static bool parse_int(const struct option *row, int64_t *into, const char *text, char *why)
{
    if (!is_whole_number(text))
        return not_of_kind(row, text, false, why);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return out_of_range(row, text, value > 0 && isfinite(row->high), why);
    if ((double)value < row->low)
        return out_of_range(row, text, false, why);
    if ((double)value > row->high)
        return out_of_range(row, text, true, why);
    *into = value;
    return true;
}

static bool parse_real(const struct option *row, double *into, const char *text, char *why)
{
    if (!is_number(text))
        return not_of_kind(row, text, false, why);
    double value = strtod(text, NULL);
    bool low = row->low_open ? value > row->low : value >= row->low;
    bool high = row->high_open ? value < row->high : value <= row->high;
    if (!low || !high || !isfinite(value))
        return out_of_range(row, text, false, why);
    *into = value;
    return true;
}

static bool parse_bool(const struct option *row, bool *into, const char *text, char *why)
{
    bool value = strcmp(text, "true") == 0;
    if (!value && strcmp(text, "false") != 0)
        return not_of_kind(row, text, false, why);
    *into = value;
    return true;
}

static bool parse_word(const struct option *row, int64_t *into, const char *text, char *why)
{
    const char *word = NULL;
    for (size_t i = 0, n; (n = word_at(row->words, i, &word)) > 0; i++) {
        if (strlen(text) == n && memcmp(text, word, n) == 0) {
            *into = (int64_t)i;
            return true;
        }
    }
    return not_of_kind(row, text, false, why);
}

static bool parse_name(const struct option *row, char *into, const char *text, char *why)
{
    size_t length = strlen(text);
    size_t allowed =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/");
    if (length == 0 || length >= RECIPE_WORD || allowed != length)
        return not_of_kind(row, text, false, why);
    memcpy(into, text, length + 1);
    return true;
}

// Bytes of the UTF-8 sequence at `at`, 0 for what is none or is a control character. Sequences that
// are too long for their value are left to the YAML reader.
static size_t utf8_length(const unsigned char *at)
{
    if (at[0] < 0x80)
        return at[0] >= 0x20 && at[0] != 0x7f;
    size_t n = at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 0;
    if (at[0] >= 0xf5)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

// A path that YAML cannot hold could not be stored with the run.
static bool parse_path(const struct option *row, char *into, const char *text, bool quoted,
                       char *why)
{
    size_t length = strlen(text);
    bool fits = length < PATH_CAPACITY && (length > 0 || quoted);
    for (size_t i = 0; fits && i < length;) {
        size_t n = utf8_length((const unsigned char *)text + i);
        fits = n > 0;
        i += n;
    }
    if (!fits)
        return not_of_kind(row, text, quoted, why);
    memcpy(into, text, length + 1);
    return true;
}

// "[teacher, student]" or "teacher,student", in any order, each once.
static bool parse_stages(const struct option *row, bool *into, const char *text, char *why)
{
    bool stages[STAGE_COUNT] = {false};
    const char *at = text + (*text == '[');
    const char *end = text + strlen(text);
    if (*text == '[' && end[-1] != ']')
        return not_of_kind(row, text, false, why);
    end -= *text == '[';
    for (;;) {
        at += strspn(at, " ");
        size_t length = strcspn(at, ", ]");
        int found = stage_find(at, length);
        if (found < 0 && at == end)
            snprintf(why, OPTION_WHY, "no stage is named; a list of %s", STAGE_WORDS);
        else if (found < 0)
            snprintf(why, OPTION_WHY, "%.*s is not a stage; a list of %s",
                     length < 60 ? (int)length : 60, at, STAGE_WORDS);
        else if (stages[found])
            snprintf(why, OPTION_WHY, "%s stands there twice", stage_names[found]);
        if (found < 0 || stages[found])
            return false;
        stages[found] = true;
        at += length;
        at += strspn(at, " ");
        if (at == end)
            break;
        if (*at++ != ',')
            return not_of_kind(row, text, false, why);
    }
    memcpy(into, stages, sizeof stages);
    return true;
}

bool option_parse(const struct option_ref *o, struct recipe *r, const char *text, bool quoted,
                  char why[OPTION_WHY])
{
    void *into = (char *)r + o->offset;
    const struct option *row = o->row;
    bool number = row->type == OPTION_INT || row->type == OPTION_REAL || row->type == OPTION_BOOL;
    if (quoted && number)
        return not_of_kind(row, text, true, why);
    if (row->type == OPTION_INT && row->automatic && strcmp(text, "auto") == 0) {
        *(int64_t *)into = 0;
        return true;
    }
    switch (row->type) {
    case OPTION_INT:
        return parse_int(row, into, text, why);
    case OPTION_REAL:
        return parse_real(row, into, text, why);
    case OPTION_BOOL:
        return parse_bool(row, into, text, why);
    case OPTION_WORD:
        return parse_word(row, into, text, why);
    case OPTION_NAME:
        return parse_name(row, into, text, why);
    case OPTION_PATH:
        return parse_path(row, into, text, quoted, why);
    case OPTION_STAGES:
        return parse_stages(row, into, text, why);
    }
    return false;
}

// The fewest digits that read back as the same double; whole numbers without an exponent.
static void real_text(double value, char *out, size_t out_bytes)
{
    if (value == floor(value) && fabs(value) < 1e15) {
        snprintf(out, out_bytes, "%.0f", value);
        return;
    }
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(out, out_bytes, "%.*g", precision, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static void stages_text(const bool *stages, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, "[");
    const char *between = "";
    for (int s = 0; s < STAGE_COUNT; s++) {
        if (!stages[s])
            continue;
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", between, stage_names[s]);
        between = ", ";
    }
    snprintf(out + used, out_bytes - used, "]");
}

void option_text(const struct option_ref *o, const struct recipe *r, char out[OPTION_TEXT_CAPACITY])
{
    const void *from = (const char *)r + o->offset;
    const char *word = "";
    size_t length;
    switch (o->row->type) {
    case OPTION_INT:
        if (o->row->automatic && *(const int64_t *)from == 0)
            snprintf(out, OPTION_TEXT_CAPACITY, "auto");
        else
            snprintf(out, OPTION_TEXT_CAPACITY, "%lld", (long long)*(const int64_t *)from);
        break;
    case OPTION_REAL:
        real_text(*(const double *)from, out, OPTION_TEXT_CAPACITY);
        break;
    case OPTION_BOOL:
        snprintf(out, OPTION_TEXT_CAPACITY, "%s", *(const bool *)from ? "true" : "false");
        break;
    case OPTION_WORD:
        length = word_at(o->row->words, (size_t) * (const int64_t *)from, &word);
        snprintf(out, OPTION_TEXT_CAPACITY, "%.*s", (int)length, word);
        break;
    case OPTION_NAME:
    case OPTION_PATH:
        snprintf(out, OPTION_TEXT_CAPACITY, "%s", (const char *)from);
        break;
    case OPTION_STAGES:
        stages_text(from, out, OPTION_TEXT_CAPACITY);
        break;
    }
}
